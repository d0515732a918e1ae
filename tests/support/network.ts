/** Tests on networks of their own. */
import { test } from "bun:test";
import { forbidden, Network } from "../../experiments/network.ts";
import { skips } from "./machine.ts";

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
