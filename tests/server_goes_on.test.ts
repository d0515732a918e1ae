/** Nothing that arrives, and nobody who leaves, ends a server or costs others their replies. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { LARGEST, networkTest, noMemory, skips } from "./support/machine.ts";
import { Actor, ENDLESS, LOOPBACK, Peer } from "./support/peers.ts";
import { LONG, memoryOf, pipe, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const [LOCAL, REMOTE] = ["udp_local.ts server", "udp_remote.ts server 127.0.0.1 --drop 0"] as const;
const SERVERS = [LOCAL, REMOTE];

async function leave(port: number): Promise<void> {
  using leaving = await Peer.create();
  leaving.send("I am leaving", port);
}

test.each(SERVERS)("clients that have left cost nobody else a reply: %s", async (command) => {
  await using server = await serve(command);
  using healthy = await Peer.create();
  for (let i = 0; i < 200; i++) {
    for (let j = 0; j < 6; j++) await leave(server.port);
    expect(await healthy.ask(`request ${i}`, server.port)).toBe(`Your data was ${`request ${i}`.length} bytes long`);
  }
  await server.until("all lines", () => server.out.split("\n").length === 200 * 7 + 2);
  expect(server.err).toBe("");
});

test("nor where Bun may not call the system to hear nothing of them", async () => {
  await using server = await serve(LOCAL, { prefix: ["env", "BUN_JSC_useJIT=0"] });
  using healthy = await Peer.create();
  for (let i = 0; i < 50; i++) {
    for (let j = 0; j < 3; j++) await leave(server.port);
    await healthy.ask("and on", server.port);
  }
  expect(server.err).toBe("");
});

test.skipIf(skips(noMemory)).each(SERVERS)("10,000 datagrams of any kind leave %s as it was", async (command) => {
  // tr and wc count what may not be in the output.
  await using server = await pipe(command, "LC_ALL=C tr -d '\\n -~' | wc -c");
  using peer = await Peer.create();
  // What a terminal or a parser may stumble over, and bytes of any kind.
  const nasty = Buffer.from("\x1b[2J\x1b]0;title\x07\r\n\0\x7f'\"\\'\"x".repeat(LARGEST / 20), "latin1");
  let before = 0;
  for (let sent = 1; sent <= 10_000; sent++) {
    // All sizes from 0 to the largest, the small ones more often: it would be gigabytes.
    const size = Math.floor((LARGEST + 1) ** (Math.random() ** 2));
    peer.send(sent % 2 > 0 ? nasty.subarray(0, size) : crypto.getRandomValues(Buffer.alloc(size)), server.port);
    if (sent % 4 > 0) continue;
    // A question now and then, so that none is lost in a full buffer.
    peer.send("So far", server.port);
    while ((await peer.receive()).text !== "Your data was 6 bytes long");
    if (sent === 4000) before = await memoryOf(server.pid);
  }
  expect(await memoryOf(server.pid)).toBeLessThan(before + 32);
  process.kill(server.pid, "SIGTERM");
  await server.line(/^ *0$/); // BSD's wc pads
});

networkTest("a datagram from any sender is answered, reported or ignored", async (net) => {
  const host = await net.host("host");
  await using actor = await Actor.create(host);
  for (const command of [...SERVERS, "udp_broadcast.ts server"]) {
    await using server = await serve(command, host);
    const to = { address: LOOPBACK, port: server.port };
    const taken = ["127.255.255.255", "255.255.255.255", "10.9.9.9", "224.0.0.1"];
    // The system takes no packets of some others.
    for (const address of [...taken, "239.255.255.255", "240.0.0.1", "0.0.0.0"]) {
      await actor.send({ texts: ["forged"], to, from: { address, port: 5 } });
    }
    await actor.send({ texts: ["from no port"], to, from: { address: LOOPBACK, port: 0 } });
    await actor.send({ texts: ["from itself"], to, from: to });
    await actor.send({ texts: ["good"], to });
    const answers = !command.startsWith("udp_broadcast");
    if (answers) expect((await actor.receive()).text).toBe("Your data was 4 bytes long");
    await server.line(/'good'$/);
    for (const address of taken) {
      expect(server.out).toMatch(new RegExp(`The client at \\('${address}', 5\\) says:? 'forged'\n`));
    }
    const lines = server.err.split("\n").slice(0, -1);
    for (const line of lines) expect(line).toMatch(/^(Cannot|Permission denied to) send to \('[\d.]+', 5\): .*$/);
    expect({ answers: lines.length > 0, ended: server.process.exitCode }).toEqual({ answers, ended: null });
  }
});

networkTest("no two servers answer each other without end", async (net) => {
  const host = await net.host("host");
  await using actor = await Actor.create(host);
  // The book's server in Python answers everything.
  const book = `
    const sock = await Bun.udpSocket({ hostname: "${LOOPBACK}", port: 0, socket: { error() {},
      data(sock, data, port, address) {
        console.log("said: " + data);
        sock.send("Your data was " + data.length + " bytes long", port, address);
      } } });
    console.log("Listening at ('${LOOPBACK}', " + sock.port + ")");`;
  const books = net.use(start(["-e", book], host));
  const [, port] = await books.line(/^Listening .* (\d+)\)$/);
  const [local, remote] = [net.use(await serve(LOCAL, host)), net.use(await serve(REMOTE, host))];
  let forged = 0;
  for (const server of [local, remote]) {
    const to = { address: LOOPBACK, port: server.port };
    for (const other of [local.port, remote.port, Number(port)]) {
      const texts = ["hello", "[0123456789abcdef] hello", "Your data was 5 bytes long"];
      forged += texts.length;
      await actor.send({ texts, to, from: { address: LOOPBACK, port: other } });
    }
    // Once it has answered this, it has seen all that came before.
    await actor.send({ texts: ["done"], to });
    await actor.receive();
  }
  await run("udp_local.ts --help"); // A loop would go on meanwhile: 57,000 lines in half a second.
  const lines = [local, remote, books].reduce((sum, { out }) => sum + out.split("\n").length - 2, 0);
  // The forged datagram, the reply to it, and the reply of one that answers everything.
  expect(lines).toBeLessThanOrEqual(3 * forged + 2);
});

/** Every ICMP error that there is: unreachable for each reason, source quench, time exceeded, parameter problem. */
const UNREACHABLE = Array.from({ length: 16 }, (_, code): [number, number] => [3, code]);
const ERRORS: [number, number][] = [...UNREACHABLE, [4, 0], [11, 0], [11, 1], [12, 0]];

/** 150 others, one after the other, each of which waits for 0.2 s: what it prints is how many were answered. */
const others = (port: number) => `
  let answered = 0;
  for (let i = 0; i < 150; i++) {
    const { promise, resolve } = Promise.withResolvers();
    const sock = await Bun.udpSocket({ socket: { data: () => resolve(1), error() {} } });
    sock.send("hello", ${port}, "${LOOPBACK}");
    answered += await Promise.race([promise, Bun.sleep(200).then(() => 0)]);
    sock.close();
  }
  console.log("answered", answered);`;

networkTest(
  "ICMP errors of every kind at full speed cost a server's other clients nothing",
  async (net) => {
    const host = await net.host("host");
    for (const command of SERVERS) {
      await using server = await serve(command, host);
      await using forger = await Actor.create(host);
      const to = { address: LOOPBACK, port: server.port };
      forger.order({ errors: ERRORS, to, from: { address: LOOPBACK, port: 5 }, count: ENDLESS });
      const { out } = await run(["-e", others(server.port)], host);
      expect(Number(out.match(/\d+/)?.[0])).toBeGreaterThanOrEqual(145);
      expect(server.err).toBe("");
    }
  },
  test.serial,
);
