/** What this machine can do, found by trying; and why a test is skipped where it cannot. */
import { test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { forbidden, Network } from "../../experiments/network.ts";
import { memoryOf, TOP } from "./processes.ts";

const skipped = new Map<string, number>();

/** Whether a test has to be skipped, for a reason that is `""` where there is none: `test.skipIf(skips(noFullDisk))(…)`. */
export function skips(reason: string): boolean {
  if (reason !== "") skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
  return reason !== "";
}

/** Prints how many tests were skipped, and why: a line for each reason. */
export function reportSkips(): void {
  for (const [reason, count] of skipped) console.log(`${count} skipped: ${reason}`);
}

/** Why a command cannot be run, or `""` where it is there. */
export function missing(command: string): string {
  return Bun.which(command) === null ? `there is no ${command} here` : "";
}

export const notLinux = process.platform === "linux" ? "" : "only Linux has it";
export const noFullDisk = existsSync("/dev/full") ? "" : "there is no /dev/full here";
export const tsc = join(TOP, "node_modules/.bin/tsc");
export const noTypes = existsSync(tsc) ? "" : "there is no tsc here, which `bun install` brings";

export const noMemory = await memoryOf(process.pid).then(
  (held) => (held > 0 ? "" : "ps does not tell how much memory a process holds"),
  () => "there is no ps here",
);

/** Linux has all of 127.0.0.0/8, macOS one address of it. */
export const noSecondLoopback = await (async () => {
  try {
    (await Bun.udpSocket({ hostname: "127.0.0.2" })).close();
    return "";
  } catch {
    return "127.0.0.2 is no address of this machine";
  }
})();

/** The size of the largest datagram that the system sends: 65,507 with IPv4, or what macOS allows (net.inet.udp.maxdgram). */
export const LARGEST = process.platform === "darwin" ? 9216 : 65_507;

/** A test on a network of its own, or a `test.serial` that has the machine to itself; skipped where the system forbids that. */
export function networkTest(
  name: string,
  body: (net: Network) => Promise<void>,
  one: Pick<typeof test, "skipIf"> = test,
): void {
  one.skipIf(skips(forbidden))(name, async () => {
    await using net = await Network.create();
    await body(net);
  });
}
