/** Listing 2-3 finds the MTU of the path, where the book's finds that of the first link. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Host, type Network, threeHosts } from "../experiments/network.ts";
import { emptyFolder } from "./support/folders.ts";
import { networkTest, notLinux, skips } from "./support/machine.ts";
import { Actor, closedPort, Peer } from "./support/peers.ts";
import { LONG, type Place, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const found = (mtu: number) => ({
  status: 0,
  out: `Alas, the datagram did not make it\nActual MTU: ${mtu}\n`,
  err: "",
});

/** Runs big_sender, which takes less than two seconds; the rest is for a busy machine. */
async function send(words: string, place?: Place) {
  const begin = performance.now();
  const result = await run(`big_sender.ts ${words}`, place);
  expect({ ...result, late: performance.now() - begin > 6000 }).toEqual({ ...result, late: false });
  return result;
}

test.skipIf(skips(notLinux))("65535 on the loopback interface, without a word to whoever listens", async () => {
  expect(await send(`127.0.0.1 -p ${await closedPort()}`)).toEqual(found(65_535));
  using silent = await Peer.create();
  expect(await send(`localhost -p ${silent.port}`)).toEqual(found(65_535));
  expect(silent.received).toEqual([]);
  await using server = await serve("udp_local.ts server");
  expect(await send(`127.0.0.1 -p ${server.port}`)).toEqual(found(65_535));
  expect(server.out).toBe(`Listening at ('127.0.0.1', ${server.port})\n`);
});

test.skipIf(skips(notLinux))(
  "a Bun that may not compile, and so can call no C library, says so in one line",
  async () => {
    const err = "Bun, which cannot call the C library, does not take the socket option 10\n";
    const end = await send("127.0.0.1", { prefix: ["env", "BUN_JSC_useJIT=0"] });
    expect(end).toEqual({ status: 1, out: "", err });
  },
);

test("it is for Linux only, whatever the host", async () => {
  const elsewhere = join(emptyFolder(), "elsewhere.ts");
  await Bun.write(elsewhere, 'Object.defineProperty(process, "platform", { value: "darwin" });');
  const err = "Not supported here: only Linux tells the MTU of a path\n";
  for (const host of ["127.0.0.1", "no-such-host.invalid", "::1"]) {
    expect(await send(host, { options: ["--preload", elsewhere] })).toEqual({ status: 1, out: "", err });
  }
});

/** alice --1500-- router --1400-- bob */
async function behindRouter(net: Network): Promise<[Host, Host, Host]> {
  const [alice, router, bob] = [await net.host("alice"), await net.host("router"), await net.host("bob")];
  net.link([alice, "eth0", "10.0.1.1/24"], [router, "west", "10.0.1.254/24"]);
  net.link([router, "east", "10.0.2.254/24"], [bob, "eth0", "10.0.2.1/24"], 1400);
  router.forward();
  alice.ip("route add default via 10.0.1.254");
  bob.ip("route add default via 10.0.2.254");
  return [alice, router, bob];
}

networkTest("behind a router the narrowest of several links", async (net) => {
  const [alice, router, bob] = await behindRouter(net);
  const carol = await net.host("carol");
  net.link([bob, "east", "10.0.3.254/24"], [carol, "eth0", "10.0.3.1/24"], 1300);
  bob.forward();
  router.ip("route add 10.0.3.0/24 via 10.0.2.1");
  carol.ip("route add default via 10.0.3.254");
  expect(await send("10.0.3.1", alice)).toEqual(found(1300));
  expect(await send("10.0.3.1", alice)).toEqual(found(1300)); // from what the system remembers
});

networkTest("what a slow router says", async (net) => {
  const [alice, bob] = await threeHosts(net);
  await using silent = await serve("udp_broadcast.ts server", bob);
  await using router = await Actor.create(alice);
  await using sender = start(`big_sender.ts 192.168.5.11 -p ${silent.port}`, alice);
  const [, port] = await silent.line(/^The client at \('192\.168\.5\.10', (\d+)\) says: '#{1472}'$/);
  await Bun.sleep(200);
  const to = { address: "192.168.5.10", port: Number(port) };
  router.order({ errors: [[3, 4]], to, from: { address: "192.168.5.11", port: silent.port } }); // with an MTU of 1400
  expect(await sender.end()).toEqual(found(1400));
});

networkTest("behind a router an end in time where nothing comes back", async (net) => {
  const [alice, router, bob] = await behindRouter(net);
  expect(await send("10.0.2.99", alice)).toEqual(found(1400)); // no such host
  await using silent = await serve("udp_broadcast.ts server", bob); // never answers
  expect(await send(`10.0.2.1 -p ${silent.port}`, alice)).toEqual(found(1400));
  // A router that drops ICMP: here one that has no way back to alice.
  alice.ip("addr add 10.9.9.9/32 dev lo");
  alice.ip("route add 10.0.2.1/32 via 10.0.1.254 src 10.9.9.9");
  router.ip("route add blackhole 10.9.9.9/32");
  expect(await send(`10.0.2.1 -p ${silent.port}`, alice)).toEqual(found(1500));
});
