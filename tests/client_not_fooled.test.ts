/** Each defence of a client against 10,000 forged datagrams; and what happens without it. */
import { describe, expect } from "bun:test";
import { namespaceTest } from "./network.ts";
import { Actor, Peer } from "./peers.ts";
import { noSecondLoopback, noSignals, testUnless } from "./platform.ts";
import { type Place, type Running, start, useProcesses } from "./scripts.ts";

useProcesses();
const test = testUnless(noSignals, noSecondLoopback);

const FORGERIES = 10_000;
const LOOPBACK = "127.0.0.1";

/** The points in time at which a client says that it waits, in ms after the first. */
function waits(client: Running): number[] {
  const points: number[] = [];
  const begin = performance.now();
  client.onLine((line) => {
    if (line.startsWith("Waiting up to")) points.push(performance.now() - begin);
  });
  return points;
}

/** Whether the points are the backoff's: none early, none later than a busy machine explains. */
function expectBackoff(points: number[]): void {
  const [first = 0] = points;
  [0, 100, 300, 700, 1500].slice(0, points.length).forEach((point, i) => {
    const at = (points[i] ?? 0) - first;
    expect(at).toBeGreaterThan(point - 50);
    expect(at).toBeLessThan(point + 700);
  });
}

const portOf = async (client: Running) => Number((await client.line(/^(?:Client socket|The OS).* (\d+)\)$/))[1]);

describe("the sender check of udp_local client", () => {
  test("refuses forgeries from other ports and other addresses, and takes the true reply", async () => {
    using server = await Peer.create();
    const client = start(`udp_local.ts client -p ${server.port}`);
    const port = await portOf(client);
    await server.receive();
    using otherPort = await Peer.create();
    // The server's port, but another address of the loopback network.
    using otherAddress = await Peer.create("127.0.0.2", server.port);
    using neither = await Peer.create("127.0.0.2");
    const forgers = [otherPort, otherAddress, neither];
    const reports = () => client.err.split("\n").length - 1;
    for (let i = 0; i < FORGERIES; ) {
      for (const forger of forgers) forger.send("Your data was 38 bytes long", port);
      i += forgers.length;
      // So that none is lost in a full buffer.
      if (i % 100 < forgers.length) await client.until(`${i} reports`, () => reports() === i);
    }
    expect(client.process.exitCode).toBeNull();
    server.send("the true reply", port);
    const { status, out } = await client.end();
    expect(status).toBe(0);
    expect(out.match(/The server .*/g)).toEqual([
      `The server ('${LOOPBACK}', ${server.port}) replied 'the true reply'`,
    ]);
    expect(reports()).toBeGreaterThanOrEqual(FORGERIES);
    for (const { socket } of forgers) {
      const sender = `('${socket.address.address}', ${socket.port})`;
      expect(client.err).toContain(`Ignoring 'Your data was 38 bytes long' from ${sender}: that is not the server\n`);
    }
  });

  test("is what --promiscuous leaves out", async () => {
    using server = await Peer.create();
    const client = start(`udp_local.ts client --promiscuous -p ${server.port}`);
    const port = await portOf(client);
    using forger = await Peer.create("127.0.0.2");
    forger.send("FAKE", port);
    expect((await client.end()).out).toContain(`('127.0.0.2', ${forger.port}) replied 'FAKE'`);
  });
});

describe("the connected socket of udp_remote client", () => {
  test("gets no forgery from other ports and other addresses", async () => {
    using server = await Peer.create();
    const client = start(`udp_remote.ts client -p ${server.port}`);
    const points = waits(client);
    const port = await portOf(client);
    using otherPort = await Peer.create();
    using otherAddress = await Peer.create("127.0.0.2", server.port);
    for (let i = 0; i < FORGERIES; i += 2) {
      otherPort.send("FAKE", port);
      otherAddress.send("FAKE", port);
      if (i % 100 === 0) await Bun.sleep(1);
    }
    await client.line("Waiting up to 0.8 seconds for a reply");
    server.send("the true reply", port);
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'the true reply'\n");
    expectBackoff(points);
  });
});

describe("forged with the server's own address and port,", () => {
  /** A client that asks an actor, and the order that forges what the actor would send it. */
  async function attack(host: Place, options: string) {
    const server = await Actor.create(host);
    const forger = await Actor.create(host);
    const client = start(`udp_remote.ts client -p ${server.address.port}${options}`, host);
    const points = waits(client);
    const { text, port } = await server.receive();
    const to = { address: LOOPBACK, port };
    const forge = (texts: string[], count = texts.length, seconds = 0) =>
      forger.send({ texts, to, from: server.address, count, seconds });
    const reply = (text: string) => server.send({ texts: [text], to });
    const [id = ""] = /^\[.*\] /.exec(text) ?? [];
    return { client, points, id, forge, reply };
  }

  /** What somebody who does not know the ID might send, and the ID cut or moved. */
  const forgeries = (id: string) => [
    "Your data was 42 bytes long", // no ID
    "[0123456789abcdef] Your data was 42 bytes long",
    `${id.slice(0, -2)}Your data was 42 bytes long`,
    `${id.slice(0, -3)}] Your data was 42 bytes long`,
    id.trim(),
    ` ${id}Your data was 42 bytes long`,
    `x${id}Your data was 42 bytes long`,
    `${id.toUpperCase().replace(/\d/g, "A")}Your data was 42 bytes long`,
    "",
  ];

  namespaceTest("a datagram without the request ID is refused", async (net) => {
    const { client, points, id, forge, reply } = await attack(await net.host("host"), " --request-id");
    await forge(forgeries(id), FORGERIES, 1);
    expect(client.out).not.toContain("The server says");
    await client.line("Waiting up to 0.8 seconds for a reply");
    await reply(`${id}the true reply`);
    const { status, out, err } = await client.end();
    expect(status).toBe(0);
    expect(out).toEndWith(`\nThe server says '${id}the true reply'\n`);
    expectBackoff(points);
    const reports = err.split("\n").slice(0, -1);
    expect(reports.length).toBe(FORGERIES);
    for (const line of reports) {
      expect(line).toMatch(/^Ignoring '.*': it does not repeat the request ID$/);
    }
  });

  namespaceTest("a flood of them does not stretch the wait", async (net) => {
    const { client, points, id, forge } = await attack(await net.host("host"), " --request-id");
    const begin = performance.now();
    await forge(forgeries(id), FORGERIES, 2.8);
    const { status, err } = await client.end();
    expect(status).toBe(1);
    expect(err).toEndWith("\nI think the server is down\n");
    expectBackoff(points);
    expect(points).toHaveLength(5);
    expect(performance.now() - begin).toBeLessThan(4000);
  });

  namespaceTest("all at once neither", async (net) => {
    const { client, points, id, forge, reply } = await attack(await net.host("host"), " --request-id");
    await forge(forgeries(id), FORGERIES);
    await client.line("Waiting up to 0.8 seconds for a reply");
    await reply(`${id}the true reply`);
    const { status, out } = await client.end();
    expect(status).toBe(0);
    expect(out).toEndWith(`\nThe server says '${id}the true reply'\n`);
    expectBackoff(points);
  });

  namespaceTest("a late reply to an earlier request is refused by the next", async (net) => {
    const host = await net.host("host");
    const server = await Actor.create(host);
    // The second client gets the port of the first, and with it what comes late.
    const first = start(`udp_remote.ts client -p ${server.address.port} --request-id`, host);
    const { text, port } = await server.receive();
    first.kill("SIGKILL");
    await first.end();
    host.sh(`echo ${port} ${port} >/proc/sys/net/ipv4/ip_local_port_range`);
    const second = start(`udp_remote.ts client -p ${server.address.port} --request-id`, host);
    const request = await server.receive();
    expect(request.port).toBe(port);
    const [late, right] = [text, request.text].map((one) => `${one.slice(0, 19)}Your data was 42 bytes long`);
    await server.send({ texts: [late ?? "", right ?? ""], to: request });
    const { status, out, err } = await second.end();
    expect({ status, err }).toEqual({
      status: 0,
      err: `Ignoring '${late}': it does not repeat the request ID\n`,
    });
    expect(out).toEndWith(`\nThe server says '${right}'\n`);
  });

  namespaceTest("a datagram is taken by a client that asks without an ID", async (net) => {
    const { client, forge } = await attack(await net.host("host"), "");
    await forge(["FAKE"]);
    expect(await client.end()).toMatchObject({
      status: 0,
      out: expect.stringMatching(/\nThe server says 'FAKE'\n$/),
      err: "",
    });
  });
});
