/**
 * The screen and the command line: `print` and `repr` as Python has them, and a `main` that reads the arguments, plays
 * the role that they name, and says in one line what the system or the network refused.
 */
import { writeSync } from "node:fs";
import { format, type ParseArgsOptionDescriptor, parseArgs } from "node:util";

// ---- The screen.

/** One end of a UDP conversation: an IPv4 address and a port. */
export interface Address {
  address: string;
  port: number;
}

/**
 * An address as Python prints it, `('127.0.0.1', 1060)`, or a text as its `repr` quotes it: what is not printable ASCII
 * is escaped, so that text from the network cannot steer the terminal, `'\x1b[2J'`. Bytes are shown like a text.
 */
export function repr(value: string | Uint8Array | Address): string {
  if (value instanceof Uint8Array) return repr(Buffer.from(value).toString("latin1"));
  if (typeof value !== "string") {
    // Whatever else a program shows, though the types know better.
    return Object(value) !== value || !("port" in value) ? format(value) : `(${repr(value.address)}, ${value.port})`;
  }
  if (/^[ -&(-[\]-~]*$/.test(value)) return `'${value}'`;
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const special: Record<string, string> = {
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    "\\": "\\\\",
    [quote]: `\\${quote}`,
  };
  const show = (code: number) => {
    const char = String.fromCharCode(code);
    const known = special[char];
    if (known !== undefined) return known;
    if (/[ -~]/.test(char)) return char;
    const hex = code.toString(16);
    return code < 256 ? `\\x${hex.padStart(2, "0")}` : `\\u${hex.padStart(4, "0")}`;
  };
  // By a table, into bytes: `replace` takes 14 ms for the largest datagram, and a client hears nothing meanwhile.
  const table = Array.from({ length: 256 }, (_, code) => show(code));
  const out = Buffer.allocUnsafe(6 * value.length);
  let length = 0;
  for (let i = 0; i < value.length; i++) {
    const shown = table[value.charCodeAt(i)] ?? show(value.charCodeAt(i));
    for (let j = 0; j < shown.length; j++) out[length++] = shown.charCodeAt(j);
  }
  return quote + out.toString("latin1", 0, length) + quote;
}

/**
 * Puts work off to the end of a turn of the event loop. Bun hands over many datagrams in a row: one call to the system
 * can write the lines of all of them, and one send the replies. Where few come, the work is done at once.
 */
export class EndOfTurn {
  #asked = 0;
  #few = true;
  readonly #work: () => void;

  constructor(work: () => void) {
    this.#work = work;
    process.on("exit", work); // a script may end in the middle of a turn
  }

  /** Asks for the work to be done. */
  ask(): void {
    if (this.#asked++ === 0) setImmediate(this.#end);
    // In a flood a turn need not end: 83,000 datagrams were seen in a row.
    if ((this.#few && this.#asked <= FEW) || this.#asked % 64 === 0) this.#work();
  }

  readonly #end = () => {
    this.#few = this.#asked <= FEW;
    this.#asked = 0;
    this.#work();
  };
}

/** Bun takes in up to 8 datagrams with one call. More in a turn come faster than they are answered. */
const FEW = 8;

let lines = "";
const writing = new EndOfTurn(flush);
let serving = true;

// What a program shows by `console.log` comes after what it has printed before.
for (const name of ["log", "info", "debug", "warn", "error", "dir", "table"] as const) {
  const show = console[name].bind(console) as (...values: unknown[]) => void;
  console[name] = (...values: unknown[]) => {
    flush();
    show(...values);
  };
}

/**
 * Prints a line on standard output: any values, as `console.log` takes them. The lines of one turn of the event loop are
 * written together. Like Python's it waits for a slow reader.
 */
export function print(...values: unknown[]): void {
  lines += `${values.length === 1 && typeof values[0] === "string" ? values[0] : format(...values)}\n`;
  writing.ask();
}

/** Prints a line on standard error, after all that was printed before it: what went wrong. */
export function warn(line: string): void {
  flush();
  write(2, `${line}\n`);
}

/** Writes what was printed, now. */
export function flush(): void {
  const text = lines;
  lines = "";
  write(1, text);
}

function write(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      if (codeOf(error) === "EAGAIN") {
        Bun.sleepSync(1); // a full pipe that somebody else has made non-blocking
        continue;
      }
      if (fd === 1 && codeOf(error) !== "EPIPE") {
        warn(`Cannot write the output: ${messageOf(error)}`);
        process.exit(1);
      }
      // The reader has gone (`… | head -3`): a server has nobody left to work for, a client does what it is there for.
      if (fd === 1 && serving) process.exit(0);
      return;
    }
  }
}

// ---- The command line.

/** What the system, the network or the user refuses: it ends a script with one line and a status, without a stack trace. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly status = 1,
  ) {
    super(message);
  }
}

/** An option, in argparse's words: a number from `least` to `most`, a whole one where its default is one; or a switch. */
interface Option {
  metavar?: string;
  help: string;
  default: number | false;
  least?: number;
  most?: number;
}

/** A role that a script can play, and what it takes. */
interface Role<Options> {
  /** Its argument: `type` makes of what was typed what the role wants, `default` stands for it where it is left out. */
  host?: { metavar: string; help: string; default?: string; type?(typed: string): Promise<string> };
  options?: Options;
  run(args: { host: string; port: number } & Values<Options>): Promise<void>;
}

type Values<Options> = {
  [Name in keyof Options]: Options[Name] extends { default: number } ? number : boolean;
};
type Roles = Record<string, Role<Record<string, Option>>>;

/**
 * Runs a script: reads the command line, plays the role that it names (a script with one role calls it `""`) and ends,
 * with status 0, 1 for a {@linkcode Failure} or what the system refuses, or 2 for wrong usage. A mistake in the program
 * is left to Bun, which shows where it is.
 */
export function main<Options extends Record<string, Record<string, Option>>>(
  description: string,
  roles: { [Name in keyof Options]: Role<Options[Name]> },
): void {
  // Not awaited by the script, which so ends when nothing can happen any more, such as after the close of its socket.
  void play(description, roles as unknown as Roles);
}

async function play(description: string, roles: Roles): Promise<void> {
  let at = { address: "", port: 0 };
  try {
    if (Bun.semver.order(Bun.version, "1.4.5") < 0) {
      throw new Failure(`Bun 1.4.5 or later is needed, this is ${Bun.version}`);
    }
    if (process.pid === 1) process.exit(await playAsChild());
    const command = parseCommandLine(roles);
    if (command === undefined) {
      print(helpOf(description, roles));
    } else {
      const { name, role, argument, options } = command;
      serving = name === "server";
      // Without an argument a role plays on this machine, as in Listing 2-1.
      const { default: other = "127.0.0.1", type } = role.host ?? {};
      const host = argument === undefined ? other : ((await type?.(argument)) ?? argument);
      at = { address: host || "0.0.0.0", port: options.port };
      await role.run({ ...options, host });
    }
    process.exit(); // As in Python, a socket that is still open does not keep a script that is done.
  } catch (error) {
    flush();
    const line = error instanceof Failure ? error.message : explain(error, at);
    if (line === undefined) throw error;
    warn(line);
    process.exit(error instanceof Failure ? error.status : 1);
  }
}

/**
 * Plays in a process of its own. The kernel keeps Ctrl-C and SIGTERM from process 1 of a container, unless that handles
 * them; and while datagrams come without a pause no handler in their process would run.
 */
async function playAsChild(): Promise<number> {
  const compiled = Bun.main.startsWith("/$bunfs/");
  const command = [...process.execArgv, ...process.argv.slice(compiled ? 2 : 1)];
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  const child = Bun.spawn([process.execPath, ...command], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  return await child.exited;
}

/** The role that the command line names and what it gives to it, or `undefined` where it asks for help. */
function parseCommandLine(roles: Roles) {
  const known: Record<string, ParseArgsOptionDescriptor> = {
    port: { type: "string", short: "p" },
    help: { type: "boolean", short: "h" },
  };
  for (const { options = {} } of Object.values(roles)) {
    for (const [name, option] of Object.entries(options)) {
      known[name] = { type: option.default === false ? "boolean" : "string" };
    }
  }
  // Not strict: its own messages would show what was typed as it is, control characters and all.
  const parsed = parseArgs({ options: known, allowPositionals: true, strict: false, tokens: true });
  const { values, positionals } = parsed;
  const given = parsed.tokens.filter((token) => token.kind === "option");
  for (const { name, rawName, value } of given) {
    const type = Object.hasOwn(known, name) ? known[name]?.type : undefined;
    const option = name === "port" ? "-p, --port" : `--${name}`;
    if (type === undefined) throw wrong(`Unknown option ${repr(rawName)}: see --help`);
    if (type === "string" && value === undefined) {
      throw wrong(`Option '${option} <value>' argument missing: see --help`);
    }
    if (type === "boolean" && value !== undefined) {
      throw wrong(`Option '${option}' does not take an argument: see --help`);
    }
  }
  if (values.help) return undefined;

  const names = Object.keys(roles);
  const at = positionals.findIndex((word) => word !== "" && names.includes(word));
  const name = at < 0 ? "" : positionals.splice(at, 1).join();
  const role = names.includes(name) ? roles[name] : undefined;
  const [argument, extra] = positionals;
  if (role === undefined) {
    const what = argument === undefined ? "no role" : `unknown role ${repr(argument)}`;
    throw wrong(`${what}: choose ${names.join(" or ")}`);
  }
  const { host, options = {} } = role;
  const stray = given.find((token) => token.name !== "port" && !(token.name in options));
  if (stray !== undefined) throw wrong(`${name} takes no option --${stray.name}`);
  const unexpected = host ? extra : argument;
  if (unexpected !== undefined) throw wrong(`unexpected argument ${repr(unexpected)}`);
  if (argument === undefined && host && host.default === undefined) {
    throw wrong(`missing argument: give a ${host.metavar}`);
  }
  const least = name === "server" ? 0 : 1; // The system chooses a server's port for 0.
  const port = numberOf("-p", values.port, { default: PORT, least, most: 65_535 });
  const others = Object.entries(options).map(([option, declared]) => {
    const value = values[option];
    const chosen = declared.default === false ? value === true : numberOf(`--${option}`, value, declared);
    return [option, chosen];
  });
  return { name, role, argument, options: { ...Object.fromEntries(others), port } };
}

const PORT = 1060;
const wrong = (line: string) => new Failure(line, 2);

/** The number that was typed for an option, a whole one where its default is one; or that default. */
function numberOf(name: string, typed: unknown, option: Omit<Option, "help">): number {
  const { default: other, least = 0, most = Infinity } = option;
  if (typeof typed !== "string") return Number(other);
  const whole = Number.isInteger(other);
  const pattern = whole ? /^\d+$/ : /^(\d+\.?\d*|\.\d+)(e-?\d+)?$/i;
  const number = pattern.test(typed) ? Number(typed) : NaN;
  if (number >= least && number <= most) return number;
  const kind = whole ? "a whole number" : "a number";
  throw wrong(`${name} takes ${kind} from ${least} to ${most}, not ${repr(typed)}`);
}

/** The text for `--help`, made from what the roles take. */
function helpOf(description: string, roles: Roles): string {
  const rows = new Map<string, string>();
  const usages = Object.entries(roles).map(([name, { host, options = {} }]) => {
    const words = [Bun.main.replace(/.*[/\\]/, ""), name];
    const whose = name === "" ? "" : `${name}: `;
    if (host !== undefined) {
      words.push(host.default === undefined ? host.metavar : `[${host.metavar}]`);
      rows.set(host.metavar, whose + host.help);
    }
    words.push("[-p PORT]");
    for (const [name, { metavar, help, default: other, least, most }] of Object.entries(options)) {
      const option = metavar === undefined ? `--${name}` : `--${name} ${metavar}`;
      words.push(`[${option}]`);
      const range = other === false ? "" : `, from ${least} to ${most} (default ${other})`;
      rows.set(option, whose + help + range);
    }
    return words.filter((word) => word !== "").join(" ");
  });
  const zero = "server" in roles ? "; 0 lets the system choose the server's" : "";
  rows.set("-p, --port PORT", `UDP port (default ${PORT}${zero})`);
  rows.set("-h, --help", "print this and exit");
  const width = Math.max(...Array.from(rows.keys(), (row) => row.length));
  const table = Array.from(rows, ([left, right]) => `  ${left.padEnd(width)}  ${right}`);
  return [`usage: ${usages.join("\n       ")}`, "", description, "", ...table].join("\n");
}

/** What the system or the network refuses, in the words of the reader, or `undefined` for a mistake in the program. */
function explain(error: unknown, { address, port }: Address): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code = "", syscall = "", address: own } = error as NodeJS.ErrnoException & { address?: string };
  // What else a server fails with is not about its own address, and Bun shows where it is.
  if (!(serving ? ["bind"] : ["bind", "connect", "recv", "send"]).includes(syscall)) return undefined;
  const at = repr({ address: own ?? address, port });
  const chosen = serving && port > 0; // and not by the system, as a client's port
  const words: Record<string, string> = {
    "bind EACCES": `Permission denied to listen at ${at}: ${port < 1024 ? "ports below 1024 are for root, choose one" : "choose another port"} with -p`,
    "bind EADDRINUSE": chosen
      ? `Address already in use: ${at}, choose another port with -p`
      : `No UDP port is free at ${repr(own ?? address)}`,
    "bind EADDRNOTAVAIL": `Cannot listen at ${at}: not an address of this machine`,
    EACCES: `Permission denied to send to ${at}: broadcast is for udp_broadcast.ts, which sets SO_BROADCAST, or a route prohibits it`,
    ECONNREFUSED: `Connection refused by ${at}: no server listens there`,
    EHOSTUNREACH: `No route to host ${at}`,
    EMSGSIZE: `Message too long to be sent to ${at} in one datagram`,
    ENETUNREACH: `Network is unreachable: no route to ${at}`,
  };
  const todo = syscall === "bind" ? "listen at" : "send to";
  return words[`${syscall} ${code}`] ?? words[code] ?? `Cannot ${todo} ${at}: ${messageOf(error)}`;
}

/** The code of a system's error, such as `"EPIPE"`, or `""`. */
export function codeOf(error: unknown): string {
  return String((error as { code?: unknown })?.code ?? "");
}

/** What an error says, in one line, whatever it quotes. */
export function messageOf(error: unknown): string {
  return repr(error instanceof Error ? error.message : String(error)).slice(1, -1);
}
