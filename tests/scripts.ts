/** Runs the scripts as a reader does, as processes, and waits for what they print. */
import { afterEach, setDefaultTimeout } from "bun:test";
import { join } from "node:path";
import { noSignals, type Test, testUnless } from "./platform.ts";

const TOP = join(import.meta.dir, "..");

/** How long anything here may take, in ms: long enough for a busy machine, since nothing waits it out in vain. */
export const PATIENCE = 20_000;

/** Where a process runs: on this machine, or on a host of tests/network.ts. */
export interface Place {
  /** What stands before a command to run it there. */
  prefix: string[];
  /** Options for Bun itself. */
  options?: string[];
}

const here: Place = { prefix: [] };

/** A process, with what it has printed so far. */
export class Running {
  out = "";
  err = "";
  #read = 0;
  #waiting = new Set<() => void>();
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #outputs: Promise<unknown>;

  constructor(command: string[]) {
    this.process = Bun.spawn(command, {
      cwd: TOP,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      detached: noSignals === "", // leads a process group: a shell ends with all that it has started
    });
    this.#outputs = Promise.all([this.#collect("out"), this.#collect("err")]);
    running.add(this);
  }

  async #collect(name: "out" | "err") {
    const decoder = new TextDecoder();
    for await (const chunk of this.process[name === "out" ? "stdout" : "stderr"]) {
      const text = decoder.decode(chunk, { stream: true });
      if (name === "out") for (const line of text.split("\n")) this.#hear(line);
      this[name] += text;
      for (const wake of this.#waiting) wake();
    }
    for (const wake of this.#waiting) wake();
  }

  #hear: (line: string) => void = () => {};

  /** Calls `hear` with each line of standard output as it comes. */
  onLine(hear: (line: string) => void): void {
    this.#hear = hear;
  }

  /** Waits until `ready` gives something, looking again when the process has printed and now and then. */
  async until<T>(what: string, ready: () => T | null | undefined | false): Promise<T> {
    const end = performance.now() + PATIENCE;
    for (;;) {
      const found = ready();
      if (found !== undefined && found !== null && found !== false) return found;
      const left = end - performance.now();
      if (left < 0) throw new Error(`no ${what} in:\n${this.out}\n${this.err}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, Math.min(left, 100) + 1);
      this.#waiting.add(resolve);
      await promise;
      this.#waiting.delete(resolve);
      clearTimeout(timer);
    }
  }

  /** The first line on standard output, of those not yet returned, that matches. */
  async line(pattern: RegExp | string): Promise<string[]> {
    return await this.until(`line ${pattern}`, () => {
      for (;;) {
        const end = this.out.indexOf("\n", this.#read);
        if (end < 0) return undefined;
        const line = this.out.slice(this.#read, end);
        this.#read = end + 1;
        const match = typeof pattern === "string" ? line === pattern && [line] : line.match(pattern);
        if (match) return match;
      }
    });
  }

  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Waits for the end; `status` is what a shell would call `$?`. */
  async end(): Promise<{ status: number; out: string; err: string }> {
    const status = await within(this.process.exited, `the end of ${this.process.pid}`);
    await within(this.#outputs, "the end of the output");
    running.delete(this);
    return { status, out: this.out, err: this.err };
  }
}

const running = new Set<Running>();

// Whoever interrupts the tests leaves nothing behind.
process.on("exit", killAll);
process.on("SIGINT", () => process.exit(130));

function killAll(): void {
  for (const { process: leader } of running) {
    try {
      process.kill(noSignals === "" ? -leader.pid : leader.pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** What a test file that runs processes begins with; returns `test` for those that run until they are told to end. */
export function useProcesses(): Test {
  // Bun's five seconds are less than some tests need; what each waits for has the limit above.
  setDefaultTimeout(6 * PATIENCE);
  afterEach(stopAll);
  return testUnless(noSignals);
}

/** Ends whatever a test left running. */
async function stopAll(): Promise<void> {
  killAll();
  for (const one of running) await one.end();
}

/** Waits for a promise, at most for the patience of all tests. */
async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), PATIENCE);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Starts a script, or with a list any Bun command: `start("udp_local.ts client -p 1060")`. */
export function start(command: string | string[], { prefix, options = [] } = here): Running {
  const words = typeof command === "string" ? command.split(" ") : command;
  return new Running([...prefix, process.execPath, ...options, ...words]);
}

/** Runs the same to its end. */
export async function run(command: string | string[], place = here) {
  return await start(command, place).end();
}

/** Starts a shell command, in which `"$bun"` is this Bun. */
export function shell(command: string): Running {
  return new Running(["env", `bun=${process.execPath}`, "sh", "-c", command]);
}

/** The memory that a process holds, in MiB; `peak` is the most that it has held, which only Linux tells. */
export async function memoryOf(pid: number, peak = false): Promise<number> {
  if (process.platform === "linux") {
    const status = await Bun.file(`/proc/${pid}/status`).text();
    return Number(status.match(peak ? /VmHWM:\s+(\d+)/ : /VmRSS:\s+(\d+)/)?.[1]) / 1024;
  }
  const ps = Bun.spawn(["ps", "-o", "rss=", "-p", String(pid)]);
  return Number(await ps.stdout.text()) / 1024;
}

/** Why the memory of a process cannot be read, or `""` where it can. */
export const noMemory = await memoryOf(process.pid).then(
  (held) => (held > 0 ? "" : "ps does not tell how much memory a process holds"),
  (error) => `nothing tells how much memory a process holds: ${error.message}`,
);

/** Starts a server on a port that the system chooses, and waits until it listens there. */
export async function serve(command: string, place = here): Promise<Running & { port: number }> {
  const server = start(`${command} -p 0`, place);
  const [, port] = await server.line(/^Listening .*at \('[\d.]+', (\d+)\)$/);
  return Object.assign(server, { port: Number(port) });
}
