/** What this machine can do, found by trying; and tests that are skipped, with the reason, where it cannot. */
import { test } from "bun:test";
import { existsSync } from "node:fs";

// ---- Skipping. A reason says what is missing, or is "" where nothing is.

/** How many tests were skipped for each reason. */
const skipped = new Map<string, number>();

/** Bun's `test`, as far as the tests here use it. */
export type Test = ((name: string, body: () => void | Promise<void>) => void) & Pick<typeof test, "each">;

/** A `test` for what needs more than Bun: skipped, and the first reason printed, where there is one against it. */
export function testUnless(...reasons: string[]): Test {
  const reason = reasons.find((one) => one !== "");
  if (reason === undefined) return test;
  const skip = (name: string) => {
    console.log(`skipped, ${name}: ${reason}`);
    skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
    test.skip(name, () => {});
  };
  const each = (rows: unknown[]) => (name: string) => {
    for (const row of rows) skip(name.replace("%s", String(Array.isArray(row) ? row[0] : row)));
  };
  return Object.assign(skip, { each: each as unknown as Test["each"] });
}

/** Prints how many tests were skipped, and why: a line for each reason. */
export function reportSkips(): void {
  for (const [reason, count] of skipped) console.log(`${count} skipped: ${reason}`);
}

// ---- What there may be.

/** Without these, nothing that runs until it is told to end can be tested. */
export const noSignals =
  process.platform === "win32" ? "Windows has no signals, and no groups of processes to end" : "";

export const noBash = missing("bash");

/** Why a command cannot be run, or `""` where it is there. */
export function missing(command: string): string {
  return Bun.which(command) === null ? `there is no ${command} here` : "";
}

export const noFullDisk = existsSync("/dev/full") ? "" : "there is no /dev/full here";

/** Linux has all of 127.0.0.0/8, macOS one address of it. */
export const noSecondLoopback = await (async () => {
  try {
    (await Bun.udpSocket({ hostname: "127.0.0.2" })).close();
    return "";
  } catch (error) {
    return `127.0.0.2 is no address of this machine: ${error instanceof Error ? error.message : error}`;
  }
})();

/** The size of the largest datagram that the system sends: 65,507 with IPv4, or less, as on macOS (net.inet.udp.maxdgram). */
export const LARGEST = await (async () => {
  const sock = await Bun.udpSocket({ hostname: "127.0.0.1" });
  const fits = (size: number) => {
    try {
      sock.send(Buffer.alloc(size), sock.port, "127.0.0.1");
      return true;
    } catch {
      return false;
    }
  };
  let [largest, tooLarge] = fits(65_507) ? [65_507, 65_508] : [0, 65_507];
  while (tooLarge - largest > 1) {
    const middle = Math.floor((largest + tooLarge) / 2);
    if (fits(middle)) largest = middle;
    else tooLarge = middle;
  }
  sock.close();
  return largest;
})();
