/** Runs the scripts as a reader does, as processes, and waits for what they print. */
import { expect } from "bun:test";
import { join } from "node:path";

/** The top of the project. */
export const TOP = join(import.meta.dir, "../..");

/** How long anything here may take, in ms: long enough for a busy machine, since nothing waits it out in vain. */
export let PATIENCE = 8000;

/** Fails what has waited in vain. What comes later waits less: it is red already, and a broken listing is to be found out soon. */
export function inVain(what: string): never {
  PATIENCE = 2000;
  throw new Error(what);
}

/** What a test file begins with: Bun's five seconds are less than some tests need on a busy machine. */
export const LONG = 120_000;

/** Where a process runs: on this machine, or on a host of network.ts. */
export interface Place {
  /** What stands before a command to run it there. */
  prefix?: string[];
  /** Options for Bun itself. */
  options?: string[];
  /** The folder, where it is not the project's. */
  cwd?: string;
}

/** What the tests have started, and not yet done with. */
const started = new Set<Running>();

/** Ends what is left of them. */
export function endAll(): void {
  for (const one of started) one.kill("SIGKILL");
}

// Whoever interrupts the tests leaves nothing behind.
process.on("exit", endAll);
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));

/** A process, with what it has printed so far. `await using` ends it, and all that it has started. */
export class Running implements AsyncDisposable {
  out = "";
  err = "";
  #read = 0;
  #news = Promise.withResolvers<void>();
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** Where it listens, if it does. */
  port = 0;
  /** Whether it has ended, and all that it has started, and what they said is there. */
  over = false;
  readonly #outputs: Promise<unknown>;

  constructor(
    readonly command: string[],
    { cwd = TOP }: Place = {},
  ) {
    // Detached, it leads a process group.
    this.process = Bun.spawn(command, { cwd, stdin: "pipe", stdout: "pipe", stderr: "pipe", detached: true });
    this.#outputs = Promise.all([this.#collect("out"), this.#collect("err")]).then(() => {
      this.over = true;
      this.#news.resolve();
    });
    started.add(this);
  }

  async #collect(name: "out" | "err"): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.process[name === "out" ? "stdout" : "stderr"]) {
      if (process.env.SHOW) process.stderr.write(chunk);
      this[name] += decoder.decode(chunk, { stream: true });
      this.#news.resolve();
      this.#news = Promise.withResolvers();
    }
  }

  /** Waits until `ready` gives something, looking again when the process has printed, and now and then, until it has ended. */
  async until<T>(what: string, ready: () => T | null | undefined | false): Promise<T> {
    for (const end = performance.now() + PATIENCE; performance.now() < end; ) {
      const { over } = this;
      const found = ready();
      if (found !== undefined && found !== null && found !== false) return found;
      if (over) break;
      await Promise.race([this.#news.promise, Bun.sleep(50)]);
    }
    inVain(`no ${what} from ${this}`);
  }

  /** What it is, and what it has said. */
  toString(): string {
    return `${this.command.slice(-6).join(" ")}${this.over ? ", which has ended" : ""}:\n${this.out}\n${this.err}`;
  }

  /** The first line on standard output, of those not yet returned, that matches. */
  async line(pattern: RegExp | string): Promise<string[]> {
    const next = () => {
      for (;;) {
        const end = this.out.indexOf("\n", this.#read);
        if (end < 0) return undefined;
        const line = this.out.slice(this.#read, end);
        this.#read = end + 1;
        const match = typeof pattern === "string" ? line === pattern && [line] : line.match(pattern);
        if (match) return match;
      }
    };
    return await this.until(`line ${pattern}`, next);
  }

  /** Writes a line to its standard input. */
  type(line: string): void {
    this.process.stdin.write(`${line}\n`);
    this.process.stdin.flush();
  }

  /** Sends a signal to it and to all that it has started, as a terminal does to all in the foreground. */
  kill(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.process.pid, signal);
    } catch {} // It has ended.
  }

  /** Waits for the end; `status` is what a shell would call `$?`. */
  async end(): Promise<{ status: number; out: string; err: string }> {
    const end = this.#outputs.then(() => this.process.exited);
    const status = await Promise.race([end, Bun.sleep(PATIENCE).then(() => undefined)]);
    if (status === undefined) inVain(`no end of ${this}`);
    return { status, out: this.out, err: this.err };
  }

  /** Waits for an end that went well, and returns what was printed. */
  async done(): Promise<string> {
    const { status, out, err } = await this.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    return out;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.end();
    started.delete(this);
  }
}

/** What those have said who were told a port, or name it. */
export const saidOf = (port: number) => [...started].filter((one) => `${one}`.includes(`${port}`)).join("\n");

/** Starts a script, or with a list any Bun command: `start("udp_local.ts client -p 1060")`. */
export function start(command: string | string[], place: Place = {}): Running {
  const words = typeof command === "string" ? command.split(" ") : command;
  return new Running([...(place.prefix ?? []), process.execPath, ...(place.options ?? []), ...words], place);
}

/** Runs the same to its end. */
export async function run(command: string | string[], place?: Place) {
  await using one = start(command, place);
  return await one.end();
}

/** Starts a shell command, in which `"$bun"` is this Bun. */
export function shell(command: string, place: Place = {}): Running {
  return new Running([...(place.prefix ?? []), "env", `bun=${process.execPath}`, "sh", "-c", command], place);
}

/** Waits for a server's first line, which says where it listens. */
async function listening(server: Running): Promise<Running> {
  const [first = ""] = await server.line(/.*/);
  const [, port] = first.match(/^Listening .*at \('[\d.]+', (\d+)\)$/) ?? [];
  if (port === undefined) throw new Error(`no port from ${server}`);
  server.port = Number(port);
  return server;
}

/** Starts a server on a port that the system chooses, and waits until it listens there. */
export async function serve(command: string, place?: Place): Promise<Running> {
  return await listening(start(`${command} -p 0`, place));
}

/**
 * Starts a server whose output goes to a shell's `reader`, once its first line has come. On standard error it says its PID
 * and, at its end, its status; the reader's descriptor 3 is the input.
 */
export async function pipe(command: string, reader: string): Promise<Running & { pid: number }> {
  const server = `sh -c 'echo "pid $$" >&2; exec "$bun" ${command} -p 0 3<&-'; echo "status $?" >&2`;
  const both = await listening(shell(`exec 3<&0; { ${server}; } | { read -r line; echo "$line"; ${reader}; }`));
  return Object.assign(both, { pid: Number(/pid (\d+)/.exec(both.err)?.[1]) });
}

/** The memory that a process holds, in MiB. */
export async function memoryOf(pid: number): Promise<number> {
  const ps = Bun.spawn(["ps", "-o", "rss=", "-p", String(pid)], { stderr: "ignore" });
  return Number(await ps.stdout.text()) / 1024;
}
