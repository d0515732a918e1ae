/** What forgers, firewalls and odd senders do to servers and clients. */
import { describe, expect } from "bun:test";
import { type Host, namespaceTest } from "./network.ts";
import { Actor, Peer } from "./peers.ts";
import { LARGEST, noSignals, testUnless } from "./platform.ts";
import { memoryOf, noMemory, run, serve, shell, start, useProcesses } from "./scripts.ts";

useProcesses();
const test = testUnless(noSignals, noMemory);

const LOOPBACK = "127.0.0.1";
const MANY = 10_000_000; // more than can be sent while a test lasts: the actor is ended

/** Every ICMP error that there is: unreachable for each reason, source quench, time exceeded, parameter problem. */
const ERRORS: [number, number][] = [
  ...Array.from({ length: 16 }, (_, code): [number, number] => [3, code]),
  [4, 0],
  [11, 0],
  [11, 1],
  [12, 0],
];

namespaceTest("ICMP errors of every kind at full speed cost a server's other clients nothing", async (net) => {
  const host = await net.host("host");
  for (const command of ["udp_local.ts server", "udp_remote.ts server 127.0.0.1 --drop 0"]) {
    const server = await serve(command, host);
    const forger = await Actor.create(host);
    const from = { address: LOOPBACK, port: 5 };
    void forger
      .send({ errors: ERRORS, to: { address: LOOPBACK, port: server.port }, from, count: MANY })
      .catch(() => {});
    const asker = start(
      [
        "-e",
        `let answered = 0;
        for (let i = 0; i < 150; i++) {
          const { promise, resolve } = Promise.withResolvers();
          const sock = await Bun.udpSocket({ socket: { data: () => resolve(1), error() {} } });
          sock.send("hello", ${server.port}, "${LOOPBACK}");
          answered += await Promise.race([promise, Bun.sleep(200).then(() => 0)]);
          sock.close();
        }
        console.log("answered", answered);`,
      ],
      host,
    );
    const [, answered] = await asker.line(/^answered (\d+)$/);
    expect(Number(answered)).toBeGreaterThanOrEqual(145);
    expect(server.err).toBe("");
    forger.process.kill("SIGKILL");
  }
});

describe("a client that hears", () => {
  /** A client, and the actor that it asks. */
  async function asking(host: Host) {
    const server = await Actor.create(host);
    const forger = await Actor.create(host);
    const client = start(`udp_remote.ts client -p ${server.address.port}`, host);
    const to = { address: LOOPBACK, port: (await server.receive()).port };
    const forge = (errors: [number, number][], count?: number) =>
      forger.send({ errors, to, from: server.address, ...(count && { count }) });
    return { server, client, to, forge };
  }

  namespaceTest("that a firewall rejects its request says so at once", async (net) => {
    const host = await net.host("host");
    for (const code of [13, 10]) {
      const { server, client, forge } = await asking(host);
      const begin = performance.now();
      await forge([[3, code]]);
      expect(await client.end()).toMatchObject({
        status: 1,
        err: `No route to host ('${LOOPBACK}', ${server.address.port}), or a firewall rejects it\n`,
      });
      expect(performance.now() - begin).toBeLessThan(1000);
    }
  });

  namespaceTest("that its host cannot be reached, at full speed, takes the reply all the same", async (net) => {
    const { server, client, to, forge } = await asking(await net.host("host"));
    void forge([[3, 1]], MANY).catch(() => {});
    for (const _ of [1, 2]) await server.receive(); // It asks on.
    await server.send({ texts: ["the true reply"], to });
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'the true reply'\n");
  });

  namespaceTest("a router's real rejection says so, too", async (net) => {
    const [alice, router] = [await net.host("alice"), await net.host("router")];
    net.link(
      { host: alice, name: "eth0", address: "10.0.1.1/24" },
      { host: router, name: "west", address: "10.0.1.254/24" },
    );
    router.forward();
    alice.ip("route add default via 10.0.1.254");
    router.ip("route add prohibit 10.0.2.1"); // 3/13, as firewalls do
    expect(await run("udp_remote.ts client 10.0.2.1", alice)).toMatchObject({
      status: 1,
      err: "No route to host ('10.0.2.1', 1060), or a firewall rejects it\n",
    });
    router.ip("route add unreachable 10.0.2.2"); // 3/1, which may pass
    expect(await run("udp_remote.ts client 10.0.2.2", alice)).toMatchObject({
      status: 1,
      err: "I think the server is down\n",
    });
  });
});

namespaceTest("a datagram from any sender is answered, reported or ignored", async (net) => {
  const host = await net.host("host");
  const actor = await Actor.create(host);
  const servers = ["udp_local.ts server", "udp_remote.ts server 127.0.0.1 --drop 0", "udp_broadcast.ts server"];
  for (const command of servers) {
    const server = await serve(command, host);
    const to = { address: LOOPBACK, port: server.port };
    const senders = ["127.255.255.255", "255.255.255.255", "10.9.9.9", "224.0.0.1", "239.255.255.255", "240.0.0.1"];
    for (const address of senders) await actor.send({ texts: ["forged"], to, from: { address, port: 5 } });
    await actor.send({ texts: ["from nowhere"], to, from: { address: "0.0.0.0", port: 5 } });
    await actor.send({ texts: ["from no port"], to, from: { address: LOOPBACK, port: 0 } });
    await actor.send({ texts: ["from itself"], to, from: to });
    await actor.send({ texts: ["good"], to });
    const answers = !command.startsWith("udp_broadcast");
    if (answers) expect((await actor.receive()).text).toBe("Your data was 4 bytes long");
    await server.line(/'good'$/);
    // The system takes no packets of some of these senders; what it takes is printed.
    for (const address of ["127.255.255.255", "255.255.255.255", "10.9.9.9", "224.0.0.1"]) {
      expect(server.out).toMatch(new RegExp(`The client at \\('${address}', 5\\) says:? 'forged'\n`));
    }
    const lines = server.err.split("\n").slice(0, -1);
    for (const line of lines) expect(line).toMatch(/^(Cannot|Permission denied to) send to \('[\d.]+', 5\): .*$/);
    expect(lines.length > 0).toBe(answers);
    expect(server.process.exitCode).toBeNull();
  }
});

test("a slow reader of the output and a flood hold up nobody for long, and take no memory", async () => {
  // 5 MB a second. The first line goes on.
  const reader = `const { readSync } = require("node:fs"); const chunk = Buffer.alloc(65536);
    for (let n = readSync(0, chunk), first = true; n > 0; n = readSync(0, chunk), first = false) {
      if (first) console.log(chunk.toString("latin1", 0, n));
      Bun.sleepSync(n / 5000);
    }`;
  const server = `sh -c 'echo "pid $$" >&2; exec "$bun" udp_local.ts server -p 0'`;
  const both = shell(`${server} | "$bun" -e '${reader}'`);
  const [, port] = await both.line(/^Listening at .* (\d+)\)$/);
  const pid = Number(/pid (\d+)/.exec(both.err)?.[1]);
  const SECONDS = 15;
  const actor = await Actor.create();
  const controls = Array.from({ length: LARGEST }, (_, i) => String.fromCharCode(i % 32)).join("");
  const flood = {
    texts: [controls],
    to: { address: LOOPBACK, port: Number(port) },
    count: SECONDS * 400,
    seconds: SECONDS,
  };
  void actor.send(flood).catch(() => {}); // It does not get to its end.
  const end = performance.now() + SECONDS * 900;
  using peer = await Peer.create();
  const held: number[] = [];
  let longest = 0;
  while (performance.now() < end) {
    const begin = performance.now();
    // The kernel drops some, where the flood has filled the server's buffer.
    do peer.send("good", Number(port));
    while ((await peer.receiveWithin(100)) === undefined);
    longest = Math.max(longest, performance.now() - begin);
    held.push(await memoryOf(pid));
    await Bun.sleep(100);
  }
  console.log(`longest wait ${longest.toFixed()} ms, memory at most ${Math.max(...held).toFixed()} MiB`);
  expect(longest).toBeLessThan(600);
  expect(Math.max(...held)).toBeLessThan(100);
  const later = held.slice(held.length / 2);
  expect(Math.max(...later)).toBeLessThan(Math.max(...held.slice(0, held.length / 2)) + 20);
});
