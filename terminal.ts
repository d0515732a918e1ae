/**
 * The terminal: `print` and `repr` as in Python, and `main`, which plays the role that the command line names and says in one
 * line what went wrong.
 */
import { writeSync } from "node:fs";
import { inspect, type ParseArgsOptionsConfig, parseArgs } from "node:util";

// ---- What the listings print.

/**
 * A text as Python's `repr` quotes it, or bytes, `b'…'`. What is not printable ASCII is escaped, so that text from the network
 * cannot steer the terminal: `'\x1b[2J'`.
 */
export function repr(value: string | Uint8Array): string {
  if (typeof value !== "string") return `b${repr(Buffer.from(value).toString("latin1"))}`;
  if (/^[ -&(-[\]-~]*$/.test(value)) return `'${value}'`; // nothing to escape, no quote: nearly every text, and quicker
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const show = (char: string) => (char === "'" && quote === '"' ? char : escaped(char));
  return quote + value.replace(/[^ -~]|[\\']/g, show) + quote;
}

const ESCAPES: Record<string, string> = { "\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\", "'": "\\'" };

function escaped(char: string): string {
  ESCAPES[char] ??= hex(char.charCodeAt(0).toString(16)); // Kept: a flood of them would hold up everybody else.
  return ESCAPES[char];
}

const hex = (code: string) => (code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`);

/** Prints values and a line's end on standard output, at once. */
export function print(...values: unknown[]): void {
  const show = (value: unknown) => (value instanceof Uint8Array ? repr(value) : inspect(value));
  write(1, values.map((value) => (typeof value === "string" ? value : show(value))).join(" "));
}

/** Prints a line on standard error: what went wrong. */
export function warn(line: string): void {
  write(2, line);
}

function write(fd: 1 | 2, line: string): void {
  for (let rest: string | Buffer = `${line}\n`; ; ) {
    try {
      const written = writeSync(fd, rest as string);
      if (written === Buffer.byteLength(rest)) return;
      rest = Buffer.from(rest as string).subarray(written);
    } catch (error) {
      const code = codeOf(error);
      if (code === "EAGAIN")
        Bun.sleepSync(1); // a full pipe that somebody else has made non-blocking
      else if (fd === 2) return;
      else if (code === "EPIPE")
        process.exit(); // the reader has gone: `… | head -3`
      else throw new Failure(`Cannot write the output: ${messageOf(error)}`);
    }
  }
}

// ---- The command line.

/** What the user, the system or the network refuses: it ends a script with one line and a status, without a stack trace. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly status = 1,
  ) {
    super(message);
  }
}

/** A role that a script can play, and what it takes on the command line. */
interface Role<Options> {
  /** What stands for the host where it is left out. */
  host?: string;
  /** Whether a host must be given. A role with neither takes none. */
  needsHost?: true;
  /** The least port: 0 where the system may choose it. @default {1} */
  leastPort?: number;
  /** Options beside `-p` and `-h`, as `parseArgs` takes them. */
  options?: Options & ParseArgsOptionsConfig;
  run(args: Values<Options> & { host: string; port: number }): Promise<void>;
}
type Values<Options> = Options extends ParseArgsOptionsConfig
  ? ReturnType<typeof parseArgs<{ options: Options }>>["values"]
  : object;
type Roles = Record<string, Role<unknown>>;

/** Runs a script: plays the role that the command line names (`""` where there is but one), or ends as {@linkcode fail} does. */
export async function main<Options>(
  usage: string,
  roles: { [Name in keyof Options]: Role<Options[Name]> },
): Promise<void> {
  try {
    if (Bun.semver.order(Bun.version, "1.4.5") < 0) {
      throw new Failure(`Bun 1.4.5 or later is needed, this is ${Bun.version}`);
    }
    // The kernel keeps Ctrl-C from process 1 of a container, unless that handles it.
    if (process.pid === 1) {
      process.on("SIGINT", () => process.exit(130));
      process.on("SIGTERM", () => process.exit(143));
    }
    const words = process.argv.slice(2);
    if (words.includes("-h") || words.includes("--help")) print(usage);
    else await play(words, roles as Roles);
  } catch (error) {
    fail(error, ", choose another port with -p");
  }
}

/**
 * Ends a script with one line on standard error, and status 1 for what the system or the network refuses, or a
 * {@linkcode Failure}'s own. A mistake in the program is left to Bun, which shows where it is. `advice` follows an address at
 * which nobody can listen.
 */
export function fail(error: unknown, advice = ""): void {
  report(error, advice);
  process.exitCode = error instanceof Failure ? error.status : 1;
  // Whatever else a program has open would keep it. `bun --watch` would end as well.
  if (!process.execArgv.includes("--watch")) process.exit();
}

/** Says on standard error what the user, the system or the network refuses, in one line. @throws all that is something else */
export function report(error: unknown, advice = ""): void {
  const line = error instanceof Failure ? error.message : explain(error, advice);
  if (line === undefined) throw error;
  warn(line);
}

function play(words: string[], roles: Roles): Promise<void> {
  const at = words.findIndex((word) => word !== "" && Object.hasOwn(roles, word));
  const role = roles[at < 0 ? "" : words.splice(at, 1).join()];
  if (role === undefined) throw wrongUsage(`Give a role, ${Object.keys(roles).join(" or ")}`);
  const port = { type: "string", short: "p", default: "1060" } as const;
  const { values, positionals } = parse(words, { port, ...role.options });
  const [host = role.host, ...more] = positionals;
  const takesHost = role.needsHost || role.host !== undefined;
  const unexpected = takesHost ? more[0] : host;
  if (unexpected !== undefined) throw wrongUsage(`Unexpected argument ${repr(unexpected)}`);
  if (takesHost && host === undefined) throw wrongUsage("The host is missing");
  return role.run({
    ...values,
    host: host ?? "",
    port: numberOf("-p", String(values.port), role.leastPort ?? 1, 65_535),
  });
}

function parse(args: string[], options: ParseArgsOptionsConfig) {
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    if (!codeOf(error).startsWith("ERR_PARSE_ARGS_")) throw error; // a mistake in `options`
    const [line] = (error as Error).message.split(/\. To specify|\.\nDid you/);
    throw wrongUsage(messageOf(line));
  }
}

const wrongUsage = (line: string) => new Failure(`${line}: see --help`, 2);

/** The number that was typed for an option: a whole one, but a fraction too where `most` is 1. @throws {Failure} for any other */
export function numberOf(option: string, typed: string, least: number, most: number): number {
  const [kind, pattern] = most > 1 ? ["whole number", /^\d+$/] : ["number", /^\d*\.?\d+$/];
  const number = pattern.test(typed) ? Number(typed) : NaN;
  if (number >= least && number <= most) return number;
  throw wrongUsage(`${option} takes a ${kind} from ${least} to ${most}, not ${repr(typed)}`);
}

/** What the system or the network refuses, in the words of the reader, or `undefined` for a mistake in the program. */
function explain(error: unknown, advice: string): string | undefined {
  const { code, syscall = "", address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number };
  if (syscall === "getifaddrs") return "The system does not tell its interfaces";
  const why = messageOf(error).replace(`, ${syscall}`, "");
  if (syscall === "setsockopt" && code !== "EINVAL") return `Cannot set the socket's option: ${why}`;
  const deeds: Record<string, string> = { bind: "listen at", connect: "send to", send: "send to", recv: "hear from" };
  const deed = deeds[syscall];
  // What is too long for any network is a mistake as well.
  if (deed === undefined || (syscall === "send" && code === "EMSGSIZE")) return undefined;
  const end = address === undefined ? "an address" : `('${address}', ${port})`;
  const refused = `Connection refused by ${end}: no server listens there`;
  const broadcast =
    syscall === "connect" ? "leave `connect` out to broadcast" : "a broadcast needs sock.setBroadcast(true)";
  const denied = `Permission denied to send to ${end}: ${broadcast}, or a route forbids it`;
  const words: Record<string, string> = {
    "listen at EACCES": `Permission denied to listen at ${end}: the system keeps that port to itself${advice}`,
    "listen at EADDRINUSE": port === 0 ? `No port is free at ${end}` : `Address already in use: ${end}${advice}`,
    "listen at EADDRNOTAVAIL": `Cannot listen at ${end}: not an address of this machine`,
    "send to EACCES": denied,
    "send to ECONNREFUSED": refused,
    "hear from ECONNREFUSED": refused,
    "hear from EHOSTUNREACH": `No route to host ${end}, or a firewall rejects it`,
    "hear from ETIMEDOUT": why,
  };
  return words[`${deed} ${code}`] ?? `Cannot ${deed} ${end}: ${why}`;
}

/** The code of a system's error, such as `"EPIPE"`, or `""`. */
export function codeOf(error: unknown): string {
  return String((error as { code?: unknown })?.code ?? "");
}

/** What an error says, in one line, whatever it quotes. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/[^ -~]/g, escaped);
}
