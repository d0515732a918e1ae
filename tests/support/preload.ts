/** Loaded before all tests (bunfig.toml): says at once where Bun is too old for them, and at the end what was skipped. */
import { afterAll } from "bun:test";
import manifest from "../../package.json";

const minimum = manifest.engines.bun.replace(">=", "");
if (Bun.semver.order(Bun.version, minimum) < 0) {
  console.error(`Bun ${minimum} or later is needed, this is ${Bun.version}`);
  process.exit(1);
}
// Not before: an older Bun might not get through it.
afterAll(async () => {
  (await import("./machine.ts")).reportSkips();
  (await import("./processes.ts")).endAll(); // what a test that failed has left
  (await import("./folders.ts")).removeFolders();
}, 60_000);
