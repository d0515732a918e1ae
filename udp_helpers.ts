/**
 * What the listings share: backoff, addresses and text as the book prints them, request IDs, and the care that Bun's
 * UDP sockets need. Each function stands on its own: take the one you like into a program of yours.
 */
import { type ParseArgsConfig, parseArgs } from "node:util";

/** One end of a UDP conversation: an IPv4 address and a port. */
export interface Address {
  address: string;
  port: number;
}

/** How long to wait for each reply; see {@linkcode backoff}. */
export interface BackoffOptions {
  /** The first delay, in seconds. @default {0.1} */
  first?: number;
  /** By what each delay is multiplied to make the next. @default {2} */
  factor?: number;
  /** The longest delay, in seconds. Where the next one would be over it, there is none. @default {2} */
  limit?: number;
}

/**
 * Yields the delays of an exponential backoff, in seconds: by default 0.1, 0.2, 0.4, 0.8, 1.6 (Listing 2-2).
 * A client that must never give up takes `limit: Infinity` and waits `Math.min(delay, 300)`.
 *
 * @throws {RangeError} where `first` is not above 0 or `factor` is below 1
 */
export function* backoff({ first = 0.1, factor = 2, limit = 2 }: BackoffOptions = {}) {
  if (!(first > 0 && factor >= 1)) throw new RangeError("backoff needs first > 0 and factor >= 1");
  for (let delay = first; delay <= limit; delay *= factor) yield delay;
}

/** Whether two addresses are the same, which is how a client checks the sender of a reply (Listing 2-1). */
export function sameAddress(a: Address, b: Address): boolean {
  return a.address === b.address && a.port === b.port;
}

/** An address as the book prints it: `('127.0.0.1', 1060)`. */
export function formatAddress({ address, port }: Address): string {
  return `('${address}', ${port})`;
}

/**
 * Text in quotes, as Python's `repr` gives it. Whatever is not printable ASCII is escaped, so that text from the network
 * cannot steer the terminal: `'\x1b[2J'`.
 */
export function quote(text: string): string {
  if (/^[ -&(-[\]-~]*$/.test(text)) return `'${text}'`;
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  return mark + text.replace(/[^ -~]|[\\']/g, (c) => escaped(c, mark)) + mark;
}

function escaped(c: string, mark: string): string {
  if (c === "\\" || c === "'") return c === "'" && mark === '"' ? c : `\\${c}`;
  const letter = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[c];
  const hex = c.charCodeAt(0).toString(16);
  return letter ?? (hex.length < 3 ? `\\x${hex.padStart(2, "0")}` : `\\u${hex.padStart(4, "0")}`);
}

/**
 * The text of a datagram, as Python's `data.decode('ascii')`. (A `TextDecoder("ascii")` is none: it reads windows-1252.)
 *
 * @throws {RangeError} where a byte is above 127
 */
export function decodeAscii(data: Buffer): string {
  const text = data.toString("latin1");
  if (/[\x80-\xff]/.test(text)) throw new RangeError(`not ASCII, ${data.length} bytes long`);
  return text;
}

/** A new request ID, to stand before the text of a request: 64 random bits, `[5f1c0a9e77b1d2c3] `. */
export function newRequestId(): string {
  return `[${crypto.getRandomValues(new Uint8Array(8)).toHex()}] `;
}

/** The request ID before a text, as {@linkcode newRequestId} made it, or `""` where there is none. */
export function requestIdOf(text: string): string {
  return /^\[[0-9a-f]{16}\] /.exec(text)?.[0] ?? "";
}

/** Whether a text is what these servers, or the book's, send as a reply. To answer one could start an endless exchange. */
export function isReply(text: string): boolean {
  return /^(\[[0-9a-f]{16}\] )?Your data was \d+ bytes long$/.test(text);
}

/**
 * The IPv4 address of a host. As in Python, `""` is every interface (0.0.0.0) and `"<broadcast>"` is 255.255.255.255.
 * Bun's sockets would also resolve names, but may prefer IPv6, and `send` takes none.
 *
 * @throws {Error} where the host is an IPv6 address or unknown
 */
export async function resolveHost(hostname: string): Promise<string> {
  if (hostname === "") return "0.0.0.0";
  if (hostname === "<broadcast>") return "255.255.255.255";
  if (hostname.includes(":")) {
    const why = "looks like an IPv6 address: the listings speak IPv4, give a name or 127.0.0.1";
    throw new Error(`${quote(hostname)} ${why}`);
  }
  try {
    // The system's resolver, as in Python; node:dns would take 3 MB more.
    const [found] = await Bun.dns.lookup(hostname, { family: 4, backend: "system" });
    if (found !== undefined) return found.address;
    throw new Error("no IPv4 address");
  } catch (error) {
    throw new Error(`Unknown host ${quote(hostname)}: ${messageOf(error)}`);
  }
}

/**
 * The subnet of an address in CIDR notation, and the address that reaches every host on it (Listing 2-4), which a
 * subnet of one or two addresses does not have (RFC 3021): `192.168.5.10/24` gives `192.168.5.0/24` and `192.168.5.255`.
 */
export function subnetOf(cidr: string): { network: string; broadcast?: string } {
  const [address = "", length] = cidr.split("/");
  const ip = address.split(".").reduce((number, octet) => number * 256 + Number(octet), 0);
  const size = 2 ** (32 - Number(length));
  const first = ip - (ip % size);
  const dotted = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join(".");
  const network = `${dotted(first)}/${length}`;
  return size > 2 ? { network, broadcast: dotted(first + size - 1) } : { network };
}

// ---- Output: one write for the lines of a batch of datagrams, and none lost where the reader is slow.

/** How much unread output may wait in memory, in characters, before datagrams are turned away. */
const BACKLOG = 16 * 1024 * 1024;
let lines = "";
let inBatch = false;
let unread = 0;
let turnedAway = 0;
let ending = false;
const sinks: { stdout?: Bun.FileSink; stderr?: Bun.FileSink } = {};

/**
 * Prints a line on standard output, as `console.log` does; but what a guarded handler prints comes at the end of the
 * batch of datagrams that Bun is handing over, in one write, and where the reader goes away the script ends, which
 * `console.log` in Bun 1.4.5 never notices. (A `console.log` of your own works too, before the lines of its batch.)
 */
export function print(line: string): void {
  lines += `${line}\n`;
  // While datagrams keep coming Bun hands them over without end: 83,000 were seen before the first setImmediate.
  if (!inBatch || lines.length > 65_536) flush();
}

/** Reports what went wrong, as a line on standard error, after all that was printed before it. */
export function report(line: string): void {
  flush();
  write("stderr", `${line}\n`);
}

function flush(): void {
  const batch = lines;
  lines = "";
  if (batch !== "") write("stdout", batch);
}

function write(name: "stdout" | "stderr", text: string): void {
  try {
    sinks[name] ??= Bun[name].writer();
    // Both: without flush a failing write goes unnoticed, and for a slow reader either may have to wait.
    const written = sinks[name].write(text);
    const flushed = sinks[name].flush();
    if (!(written instanceof Promise || flushed instanceof Promise)) return;
    unread += text.length;
    void Promise.all([written, flushed])
      .catch((error) => cannotWrite(name, error))
      .then(() => {
        unread -= text.length;
        reportTurnedAway();
      });
  } catch (error) {
    cannotWrite(name, error);
  }
}

function cannotWrite(name: "stdout" | "stderr", error: unknown): void {
  if (name === "stderr") return; // There is nobody left to tell.
  // The reader has gone (`… | head -3`): nobody is left to work for.
  if (codeOf(error) === "EPIPE") process.exit(0);
  report(`Cannot write the output: ${messageOf(error)}`);
  void finish(1);
}

function reportTurnedAway(): void {
  if (turnedAway === 0 || unread > BACKLOG / 2) return;
  const count = turnedAway;
  turnedAway = 0;
  report(`Ignored ${count} datagrams, too many to keep up with`);
}

/** Ends the script once all output is written, or after two seconds where nobody reads it. */
async function finish(status: number): Promise<never> {
  ending = true;
  flush();
  const written = Object.values(sinks).map(async (sink) => sink.flush());
  await Promise.race([Promise.allSettled(written), Bun.sleep(2000)]);
  process.exit(status);
}

// ---- Sockets.

/** How long datagrams may follow each other without a pause, in ms, before some are turned away. */
const KEEP_UP = 250;
/** How long to stay awake for the next datagram after one that came alone, in ms. */
const LINGER = 0.01;

/** What a listing does with the datagrams that reach a socket; see {@linkcode guarded}. */
export interface GuardedHandler {
  /** Takes a datagram, as Bun's `data` does, and its sender. */
  data?(sock: Replies, data: Buffer, port: number, address: string): void;
  /** On a connected socket: the host has answered that nobody listens at the port. */
  refused?(error: unknown): void;
}

/** The `sock` that a guarded handler is given: what it sends goes out with the rest of its batch. */
export interface Replies {
  send(text: string, port: number, address: string): void;
}

type Sender = Pick<Bun.udp.Socket<"buffer">, "send" | "sendMany">;

/**
 * Wraps the handler of a UDP socket, so that nothing that arrives can end the program:
 *
 * - What `data` throws, such as {@linkcode decodeAscii} on bytes that are not ASCII, is reported with the sender.
 * - The replies to a batch of datagrams are sent together, then its lines are written: no client waits for a terminal.
 * - A reply that can't be sent is tried again, then reported: see {@linkcode sendAll}.
 * - Where datagrams come too fast to be answered, or nobody reads the output, some are turned away, and counted.
 * - Errors that the network sends back, and on which Bun 1.4.5 would end a process without a callback, are left alone:
 *   on an unconnected socket they only say that some client has left. A refused connection is handed over.
 */
export function guarded(handler: GuardedHandler = {}) {
  let batch = 0;
  let begin = 0;
  let late = false;
  let quiet = true;
  let replies: (string | number)[] = []; // text, port and address of each, as sendMany takes them
  const sock: Replies = { send: (...reply) => void replies.push(...reply) };

  function finishBatch(origin: Sender): void {
    const ready = replies;
    replies = [];
    if (ready.length > 0) sendAll(origin, ready);
    flush();
  }
  function endBatch(origin: Sender): void {
    quiet = batch === 1;
    batch = 0;
    late = false;
    inBatch = false;
    finishBatch(origin);
    reportTurnedAway();
    // A client that waits for each reply asks again before a sleeping process would be awake: this makes 1.3 times the
    // replies where the two have a core each, 0.8 where they share one.
    const awakeUntil = performance.now() + LINGER;
    while (quiet && performance.now() < awakeUntil);
  }

  return {
    data(origin: Sender, data: Buffer, port: number, address: string): void {
      if (ending) return;
      if (batch++ === 0) {
        begin = performance.now();
        inBatch = true;
        setImmediate(endBatch, origin);
      }
      if (late || unread > BACKLOG) {
        turnedAway++;
        return;
      }
      try {
        handler.data?.(sock, data, port, address);
      } catch (error) {
        const sender = formatAddress({ address, port });
        report(`Ignoring a datagram from ${sender}: ${messageOf(error)}`);
      }
      // What comes alone is answered at once; of what comes together, 128 at a time.
      if (batch % 128 === 0 || (quiet && batch === 1)) {
        finishBatch(origin);
        late = performance.now() - begin > KEEP_UP;
      }
    },
    // Bun 1.4.5 passes the error alone, its types say (socket, error), and a later version may do that.
    error(...args: unknown[]): void {
      const error = args.at(-1);
      if (codeOf(error) === "ECONNREFUSED") handler.refused?.(error);
    },
  };
}

/**
 * Sends each of the replies, or reports why not. Bun 1.4.5 lets the ICMP answer to an earlier reply, whose client has
 * left, fail the next one, to somebody else; the call that fails clears the error, so the same one made again goes out
 * (https://github.com/oven-sh/bun/pull/36249).
 */
function sendAll(sock: Sender, replies: (string | number)[]): void {
  let sent = 0;
  try {
    if (replies.length > 3) sent = sock.sendMany(replies);
  } catch {
    // None of them went out: each is tried alone.
  }
  for (let i = 3 * sent; i < replies.length; i += 3) {
    const [text, port, address] = replies.slice(i, i + 3) as [string, number, string];
    let problem = "";
    for (let tries = 0; tries < 3; tries++) {
      try {
        problem = sock.send(text, port, address) ? "" : "the send buffer is full";
      } catch (error) {
        problem = messageOf(error);
      }
      if (problem === "") break;
    }
    if (problem !== "") report(`Cannot answer ${formatAddress({ address, port })}: ${problem}`);
  }
}

/**
 * Makes a send that may fail, as one does while a cable is pulled: its datagram is lost, like others on their way. Only
 * a refused connection is an answer: that error is thrown.
 */
export function mayBeLost(send: () => boolean): void {
  try {
    send();
  } catch (error) {
    if (codeOf(error) === "ECONNREFUSED") throw error;
  }
}

// ---- The command line.

/** What is wrong with a command line: one line on standard error and exit status 2. */
export class UsageError extends Error {}

/** A role that a script can play. */
export interface Role {
  /** The name of the role's argument: `"HOST"`, or `"[HOST]"` where it may be left out. */
  argument?: string;
  /** What stands for an argument that was left out. */
  host?: string;
  /** The options that the role takes beside `-p` and `-h`, as `parseArgs` of `node:util` wants them. */
  options?: NonNullable<ParseArgsConfig["options"]>;
  /** Plays the role. */
  run(args: { host: string; port: number; values: Record<string, unknown> }): Promise<void>;
}

/**
 * Runs a script: reads the command line, plays the role that it names (a script with one role calls it `""`), and says
 * in one line what was wrong, with exit status 2 for the command line and 1 for the rest. Ctrl-C ends it with 130.
 */
export async function main(usage: string, roles: Record<string, Role>): Promise<void> {
  // Once: whoever presses Ctrl-C again does not want to wait for a reader of the output.
  process.once("SIGINT", () => finish(130));
  process.once("SIGTERM", () => finish(143));
  let args = { host: "", port: 0 };
  try {
    if (Bun.semver.order(Bun.version, "1.4.5") < 0) {
      throw new Error(`Bun 1.4.5 or later is needed, this is ${Bun.version}`);
    }
    const command = parseCommandLine(roles);
    if (command === undefined) return print(usage);
    args = command;
    await command.role.run(command);
  } catch (error) {
    report(await explain(error, args));
    await finish(error instanceof UsageError ? 2 : 1);
  }
}

function parseCommandLine(roles: Record<string, Role>) {
  const common = {
    port: { type: "string", short: "p", default: "1060" },
    help: { type: "boolean", short: "h" },
  } as const;
  const theirs = Object.assign({}, ...Object.values(roles).map((role) => role.options));
  const { values, positionals, tokens } = parseStrictly({ ...theirs, ...common });
  if (values.help) return undefined;

  const names = Object.keys(roles);
  const at = positionals.findIndex((word) => names.includes(word));
  const name = names.includes("") ? "" : positionals.splice(at, at < 0 ? 0 : 1)[0];
  const role = roles[name ?? ""];
  if (role === undefined) {
    const wrong =
      positionals[0] === undefined ? "no role" : `unknown role ${quote(positionals[0])}`;
    throw new UsageError(`${wrong}: choose ${names.join(" or ")}`);
  }

  const { argument = "", options = {} } = role;
  for (const token of tokens) {
    if (token.kind === "option" && !(token.name in { ...options, ...common })) {
      throw new UsageError(`${name} takes no option --${token.name}`);
    }
  }
  const extra = positionals[argument === "" ? 0 : 1];
  if (extra !== undefined) throw new UsageError(`unexpected argument ${quote(extra)}`);
  const host = positionals[0] ?? role.host;
  if (host === undefined) throw new UsageError(`missing argument: give a ${argument}`);

  const least = name === "server" ? 0 : 1;
  const port = parseNumber("-p", String(values.port), { least, most: 65_535, whole: true });
  return { role, host, port, values };
}

function parseStrictly(options: NonNullable<ParseArgsConfig["options"]>) {
  try {
    return parseArgs({ options, allowPositionals: true, tokens: true });
  } catch (error) {
    // The first sentence names the option; the rest explains what to do with words that begin with "-".
    throw new UsageError(`${messageOf(error).split(/\.\s/)[0]}: see --help`);
  }
}

/**
 * The number that the text of an option stands for.
 *
 * @throws {UsageError} where it is none from `least` to `most`, or not a whole one where that is asked
 */
export function parseNumber(
  option: string,
  text: string,
  { least, most, whole = false }: { least: number; most: number; whole?: boolean },
): number {
  const value = (whole ? /^\d+$/ : /^(\d+\.?\d*|\.\d+)(e-?\d+)?$/i).test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  const kind = whole ? "a whole number" : "a number";
  throw new UsageError(`${option} takes ${kind} from ${least} to ${most}, not ${quote(text)}`);
}

/** An error in words for the reader of a terminal, with the address that the script was to use. */
async function explain(error: unknown, { host, port }: { host: string; port: number }) {
  const at = formatAddress({ address: await resolveHost(host).catch(() => host), port });
  const binding = (error as { syscall?: string }).syscall === "bind";
  const words: Record<string, string> = {
    EACCES: binding
      ? `Permission denied to listen at ${at}: ports below 1024 are for root, choose one with -p`
      : `Permission denied to send to ${at}: broadcast is for udp_broadcast.ts`,
    EADDRINUSE: `Address already in use: ${at}, choose another port with -p`,
    EADDRNOTAVAIL: `Cannot listen at ${at}: not an address of this machine`,
    ECONNREFUSED: `Connection refused by ${at}: no server listens there`,
    EHOSTUNREACH: `No route to host ${at}`,
    ENETUNREACH: `Network is unreachable: no route to ${at}`,
  };
  return words[codeOf(error)] ?? messageOf(error);
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown })?.code ?? "");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
