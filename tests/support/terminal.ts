/** A program on a terminal, as on a reader's screen. */
import { PATIENCE } from "./processes.ts";

export class Terminal implements AsyncDisposable {
  screen = "";
  /** When each line was complete, in ms. */
  readonly shown: number[] = [];
  readonly process: Bun.Subprocess;

  constructor(command: string[], cwd: string, env: Record<string, string> = {}) {
    const data = (_: unknown, bytes: Uint8Array) => {
      if (process.env.SHOW) process.stderr.write(bytes);
      this.screen += Buffer.from(bytes).toString().replaceAll("\r", "");
      while (this.shown.length < this.screen.split("\n").length - 1) this.shown.push(performance.now());
    };
    this.process = Bun.spawn(command, { cwd, env: { ...process.env, ...env }, terminal: { data } });
  }

  /** Waits until something is so; false where it takes too long. It counts how often it looks: other tests may hold it up. */
  async until(ready: () => boolean, patience = PATIENCE): Promise<boolean> {
    for (let left = patience; left > 0; left -= 10) {
      if (ready()) return true;
      await Bun.sleep(10);
    }
    return false;
  }

  press(keys: string): void {
    this.process.terminal?.write(keys);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
    this.process.terminal?.close();
  }
}

/** A server on a terminal, once it listens. */
export async function serveOnTerminal(script: string, cwd: string): Promise<Terminal & { port: number }> {
  const server = new Terminal([process.execPath, script, "server", "-p", "0"], cwd);
  await server.until(() => server.screen.includes("\n"));
  return Object.assign(server, { port: Number(/(\d+)\)/.exec(server.screen)?.[1]) });
}
