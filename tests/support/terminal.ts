/** Runs a server as on a reader's screen. */
import { expect } from "bun:test";
import { PATIENCE, TOP } from "./processes.ts";

/** A server on a terminal of its own, with what has appeared on it. */
export class OnTerminal implements AsyncDisposable {
  screen = "";
  /** When each line has appeared, in ms. */
  readonly shown: number[] = [];
  readonly process: Bun.Subprocess;
  constructor(script: string) {
    const data = (_: unknown, bytes: Uint8Array) => {
      this.screen += Buffer.from(bytes).toString("latin1");
      while (this.shown.length < this.screen.split("\n").length - 1) this.shown.push(performance.now());
    };
    this.process = Bun.spawn([process.execPath, script, "server", "-p", "0"], { cwd: TOP, terminal: { data } });
  }
  async appears(text: string): Promise<void> {
    for (const end = performance.now() + PATIENCE; !this.screen.includes(text) && performance.now() < end; )
      await Bun.sleep(5);
    expect(this.screen).toContain(text);
  }
  async port(): Promise<number> {
    await this.appears(")\r\n");
    return Number(/(\d+)\)/.exec(this.screen)?.[1]);
  }
  type(keys: string): void {
    this.process.terminal?.write(keys);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
    this.process.terminal?.close();
  }
}
