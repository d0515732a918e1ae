/** Listing 2-2 prints what the book prints: loss, backoff, giving up, and request IDs. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { closedPort, Peer } from "./support/peers.ts";
import { LONG, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const DELAYS = [0.1, 0.2, 0.4, 0.8, 1.6];
const MESSAGE = "This is another message";

/** What the client prints while it waits `count` times. */
const waits = (count: number) => DELAYS.slice(0, count).map((delay) => `Waiting up to ${delay} seconds for a reply`);

/** Starts a client with a peer in the test for its server. */
const clientOf = (peer: Peer, options = "") => start(`udp_remote.ts client 127.0.0.1 -p ${peer.port}${options}`);

test.serial("server and client print what the book prints", async () => {
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  const { status, out, err } = await run(`udp_remote.ts client 127.0.0.1 -p ${server.port}`);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  const [, port] = await server.line(/^The client at \('127\.0\.0\.1', (\d+)\) says 'This is another message'$/);
  const name = `Client socket name is ('127.0.0.1', ${port})`;
  expect(out.split("\n")).toEqual([name, ...waits(1), "The server says 'Your data was 23 bytes long'", ""]);
});

test("hosts may be names, '', 0.0.0.0, or left out", async () => {
  for (const [host, address] of [
    [" localhost", "127.0.0.1"],
    [" ", "0.0.0.0"], // an empty argument
    [" 0.0.0.0", "0.0.0.0"],
    ["", "0.0.0.0"],
  ]) {
    await using server = await serve(`udp_remote.ts server${host} --drop 0`);
    expect(server.out).toBe(`Listening at ('${address}', ${server.port})\n`);
    for (const host of ["localhost ", ""]) {
      expect(await run(`udp_remote.ts client ${host}-p ${server.port}`)).toMatchObject({ status: 0, err: "" });
    }
  }
});

describe("the client", () => {
  test.each([1, 2, 3, 4, 5])("repeats its request until it is answered, the %p. time", async (n) => {
    using peer = await Peer.create();
    await using client = clientOf(peer);
    for (let i = 1; i <= n; i++) {
      const request = await peer.receive();
      expect(request.text).toBe(MESSAGE);
      if (i === n) peer.send("Your data was 23 bytes long", request.port);
    }
    const lines = (await client.done()).split("\n").slice(1, -1);
    expect(lines.pop()).toBe("The server says 'Your data was 23 bytes long'");
    expect(lines.length).toBeGreaterThanOrEqual(n); // A busy machine answers late.
    expect(lines).toEqual(waits(lines.length));
  });

  test("ends where nobody listens, at once or when the server goes", async () => {
    const refused = (port: number) => `Connection refused by ('127.0.0.1', ${port}): no server listens there\n`;
    const closed = await closedPort();
    const { status, out, err } = await run(`udp_remote.ts client -p ${closed}`);
    expect({ status, err }).toEqual({ status: 1, err: refused(closed) });
    expect(out.split("\n").slice(1)).toEqual([...waits(1), ""]);

    const peer = await Peer.create();
    await using client = clientOf(peer);
    await peer.receive();
    peer.socket.close();
    expect(await client.end()).toMatchObject({ status: 1, err: refused(peer.port) });
  });

  test("hears nobody but its server", async () => {
    using server = await Peer.create();
    await using client = clientOf(server);
    const { port } = await server.receive();
    using stranger = await Peer.create();
    for (let i = 0; i < 1000; i++) stranger.send("FAKE", port);
    await server.receive(); // It asks on.
    server.send("the true reply", port);
    expect(await client.done()).toEndWith("\nThe server says 'the true reply'\n");
  });
});

describe("a request ID", () => {
  const ID = /^(\[[0-9a-f]{16}\] )This is another message$/;

  test("comes back from our server, which needs no option for it", async () => {
    await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
    const { status, out, err } = await run(`udp_remote.ts client -p ${server.port} --request-id`);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    const [, id] = await server.line(/says '(\[[0-9a-f]{16}\] )This is another message'$/);
    // N counts the bytes of the datagram as it was received, the 19 of the ID too.
    expect(out).toEndWith(`\nThe server says '${id}Your data was 42 bytes long'\n`);
  });

  test("is the same in every repeat, and another for the next client", async () => {
    const idsOf = async () => {
      using peer = await Peer.create();
      await using _client = clientOf(peer, " --request-id");
      const texts = [await peer.receive(), await peer.receive(), await peer.receive()].map(({ text }) => text);
      return new Set(texts.map((text) => text.match(ID)?.[1]));
    };
    const [one, another] = await Promise.all([idsOf(), idsOf()]);
    expect([one.size, another.size, one.union(another).size]).toEqual([1, 1, 2]);
  });

  test.each(["", " --request-id"])("ends late and repeated replies to another question:%s", async (option) => {
    using peer = await Peer.create();
    const late = "Your data was 99 bytes long";
    await using client = clientOf(peer, option);
    const { port, text } = await peer.receive();
    const id = text.match(ID)?.[1] ?? "";
    for (let i = 0; i < 2; i++) peer.send(late, port);
    // Without an ID the client has what it takes for its reply, and has left.
    if (option === "") await client.line(`The server says '${late}'`);
    for (let i = 0; i < 2; i++) peer.send(`${id}right`, port);
    const { status, out, err } = await client.end();
    const ignored = option === "" ? "" : `Ignoring '${late}': it does not repeat the request ID\n`.repeat(2);
    expect({ status, err }).toEqual({ status: 0, err: ignored });
    expect(out.match(/The server says .*/g)).toEqual([`The server says '${option === "" ? late : `${id}right`}'`]);
  });
});

// 1,000 fair coins have a standard deviation of 15.8: over 5.1 of them from 500 is one run in three million.
test.each([
  ["", 419, 581],
  [" --drop 0.5", 419, 581],
  [" --drop 0", 0, 0],
  [" --drop 1", 1000, 1000],
])("the server drops a half by default, or as many as it is told:%s", async (option, least, most) => {
  await using server = await serve(`udp_remote.ts server 127.0.0.1${option}`);
  using peer = await Peer.create();
  const client = `('127.0.0.1', ${peer.port})`;
  const lines = () => server.out.split("\n").slice(1, -1);
  for (let sent = 0; sent < 1000; ) {
    for (let i = 0; i < 50; i++, sent++) peer.send(MESSAGE, server.port); // a few at a time: no buffer overflows
    await server.until(`${sent} lines`, () => lines().length === sent);
  }
  const dropped = lines().filter((line) => line === `Pretending to drop packet from ${client}`).length;
  const said = lines().filter((line) => line === `The client at ${client} says '${MESSAGE}'`).length;
  expect(dropped + said).toBe(1000);
  expect(dropped).toBeWithin(least, most + 1);
  for (let i = 0; i < said; i++) await peer.receive();
  expect(peer.received).toEqual([]);
});

test.serial("the client gives up after five requests, at 3.1 seconds", async () => {
  using peer = await Peer.create();
  const begin = performance.now();
  await using client = clientOf(peer);
  const { status, out, err } = await client.end();
  const taken = performance.now() - begin;
  expect({ status, err }).toEqual({ status: 1, err: "I think the server is down\n" });
  expect(out.split("\n").slice(1)).toEqual([...waits(5), ""]);
  expect(peer.received.map(({ text }) => text)).toEqual(DELAYS.map(() => MESSAGE));
  expect(taken).toBeWithin(3100, 4500);
});
