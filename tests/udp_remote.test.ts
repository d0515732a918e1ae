import { describe, expect } from "bun:test";
import { closedPort, Peer } from "./peers.ts";
import { run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const DELAYS = [0.1, 0.2, 0.4, 0.8, 1.6];
const MESSAGE = "This is another message";

/** What the client prints while it waits `count` times. */
const waits = (count: number) => DELAYS.slice(0, count).map((delay) => `Waiting up to ${delay} seconds for a reply`);

/** Starts a client with a peer in the test for its server. */
async function clientOf(peer: Peer, options = "") {
  const client = start(`udp_remote.ts client 127.0.0.1 -p ${peer.port}${options}`);
  await client.line(/^Client socket name is \('127\.0\.0\.1', \d+\)$/);
  return client;
}

test("server and client print what the book prints", async () => {
  const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  const { status, out, err } = await run(`udp_remote.ts client 127.0.0.1 -p ${server.port}`);
  const [, port] = await server.line(/^The client at \('127\.0\.0\.1', (\d+)\) says 'This is another message'$/);
  expect({ status, err, out: out.split("\n") }).toEqual({
    status: 0,
    err: "",
    out: [
      `Client socket name is ('127.0.0.1', ${port})`,
      ...waits(1),
      "The server says 'Your data was 23 bytes long'",
      "",
    ],
  });
});

test("the server listens at every interface by default, the client asks this machine", async () => {
  const server = await serve("udp_remote.ts server --drop 0");
  expect(server.out).toBe(`Listening at ('0.0.0.0', ${server.port})\n`);
  const { status, out } = await run(`udp_remote.ts client -p ${server.port}`);
  expect(status).toBe(0);
  expect(out).toEndWith("The server says 'Your data was 23 bytes long'\n");
});

test("hosts may be names, '' and 0.0.0.0", async () => {
  const server = await serve("udp_remote.ts server localhost --drop 0");
  expect(server.out).toStartWith("Listening at ('127.0.0.1', ");
  expect((await run(`udp_remote.ts client localhost -p ${server.port}`)).status).toBe(0);
  const everywhere = start("udp_remote.ts server  -p 0"); // two blanks: an empty argument
  await everywhere.line(/^Listening at \('0\.0\.0\.0', /);
  const zeros = await serve("udp_remote.ts server 0.0.0.0");
  expect(zeros.out).toStartWith("Listening at ('0.0.0.0', ");
});

describe("the client", () => {
  // All at once: together they take no longer than the slowest.
  test("repeats its request until the n-th is answered, for n from 1 to 5", async () => {
    await Promise.all(
      [1, 2, 3, 4, 5].map(async (n) => {
        using peer = await Peer.create();
        const client = await clientOf(peer);
        for (let i = 1; i <= n; i++) {
          const request = await peer.receive();
          expect(request.text).toBe(MESSAGE);
          if (i === n) peer.send("Your data was 23 bytes long", request.port);
        }
        const { status, out, err } = await client.end();
        expect({ status, err }).toEqual({ status: 0, err: "" });
        expect(out.split("\n").slice(1)).toEqual([...waits(n), "The server says 'Your data was 23 bytes long'", ""]);
      }),
    );
  });

  test("gives up after five requests, at 3.1 seconds", async () => {
    using peer = await Peer.create();
    const client = await clientOf(peer);
    const begin = performance.now();
    const at: number[] = [];
    for (const _ of DELAYS) {
      await peer.receive();
      at.push(performance.now() - begin);
    }
    const { status, out, err } = await client.end();
    const total = performance.now() - begin;
    expect({ status, err }).toEqual({ status: 1, err: "I think the server is down\n" });
    expect(out.split("\n").slice(1)).toEqual([...waits(5), ""]);
    // Never early; and on a busy machine late, but less than the next delay would make it.
    [0, 0.1, 0.3, 0.7, 1.5].forEach((point, i) => {
      expect(at[i]).toBeGreaterThan(point * 1000 - 100);
      expect(at[i]).toBeLessThan(point * 1000 + 1500);
    });
    expect(total).toBeGreaterThan(3000);
    expect(total).toBeLessThan(5000);
    expect(peer.received).toEqual([]);
  });

  test("ends at once where the connection is refused", async () => {
    const port = await closedPort();
    const begin = performance.now();
    const { status, out, err } = await run(`udp_remote.ts client 127.0.0.1 -p ${port}`);
    expect(status).toBe(1);
    expect(err).toBe(`Connection refused by ('127.0.0.1', ${port}): no server listens there\n`);
    expect(out.split("\n").slice(1)).toEqual([...waits(1), ""]);
    expect(performance.now() - begin).toBeLessThan(3000);
  });

  test("ends where the server goes while it waits", async () => {
    const peer = await Peer.create();
    const client = await clientOf(peer);
    await peer.receive();
    peer.socket.close();
    const { status, err } = await client.end();
    expect(status).toBe(1);
    expect(err).toBe(`Connection refused by ('127.0.0.1', ${peer.port}): no server listens there\n`);
  });

  test("takes an empty reply, and a late one", async () => {
    using peer = await Peer.create();
    const client = await clientOf(peer);
    const { port } = await peer.receive();
    await peer.receive();
    peer.send("", port);
    const { status, out } = await client.end();
    expect(status).toBe(0);
    expect(out).toEndWith(`${waits(2)[1]}\nThe server says ''\n`);
  });

  test("shows a reply that is not ASCII", async () => {
    using peer = await Peer.create();
    const client = await clientOf(peer);
    const { port } = await peer.receive();
    peer.send(new Uint8Array([200]), port);
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("The server says '\\xc8'\n");
  });
});

describe("a request ID", () => {
  const ID = /^(\[[0-9a-f]{16}\] )This is another message$/;

  test("comes back from our server, which needs no option for it", async () => {
    const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
    const { status, out } = await run(`udp_remote.ts client -p ${server.port} --request-id`);
    expect(status).toBe(0);
    const [, id] = await server.line(/says '(\[[0-9a-f]{16}\] )This is another message'$/);
    // N counts the bytes of the datagram as it was received, the 19 of the ID too.
    expect(out).toEndWith(`\nThe server says '${id}Your data was 42 bytes long'\n`);
  });

  test("is the same in every repeat, and another for the next client", async () => {
    using peer = await Peer.create();
    await Promise.all([clientOf(peer, " --request-id"), clientOf(peer, " --request-id")]);
    const seen = new Map<number, Set<string | undefined>>();
    for (let i = 0; i < 6; i++) {
      const { text, port } = await peer.receive();
      seen.set(port, (seen.get(port) ?? new Set()).add(text.match(ID)?.[1]));
    }
    const ids = [...seen.values()].map((one) => [...one]);
    expect(ids).toHaveLength(2);
    for (const one of ids) expect(one).toEqual([expect.stringMatching(/^\[/)]);
    expect(ids[0]).not.toEqual(ids[1]);
  });

  test("ends late and repeated replies to another question; without one they are taken", async () => {
    using peer = await Peer.create();
    const late = "Your data was 99 bytes long";
    for (const option of ["", " --request-id"]) {
      const client = await clientOf(peer, option);
      const { port, text } = await peer.receive();
      const id = text.match(ID)?.[1] ?? "";
      peer.send(late, port);
      peer.send(late, port);
      // Without an ID the client has what it takes for its reply, and has left.
      if (option === "") await client.line(`The server says '${late}'`);
      peer.send(`${id}right`, port);
      peer.send(`${id}right`, port);
      const { status, out, err } = await client.end();
      expect(status).toBe(0);
      const ignored = `Ignoring '${late}': it does not repeat the request ID\n`;
      expect(err).toBe(option === "" ? "" : ignored + ignored);
      expect(out.match(/The server says .*/g)).toEqual([`The server says '${option === "" ? late : `${id}right`}'`]);
    }
  });
});

describe("--drop", () => {
  /** Sends requests, a few at a time so that no buffer overflows, and counts what the server says of them. */
  async function count(requests: number, options: string) {
    const server = await serve(`udp_remote.ts server 127.0.0.1${options}`);
    using peer = await Peer.create();
    const lines = () => server.out.split("\n").slice(1, -1);
    for (let sent = 0; sent < requests; ) {
      for (let i = 0; i < 50; i++, sent++) peer.send(MESSAGE, server.port);
      await server.until(`${sent} lines`, () => lines().length === sent);
    }
    const dropped = lines().filter(
      (line) => line === `Pretending to drop packet from ('127.0.0.1', ${peer.port})`,
    ).length;
    const said = lines().filter(
      (line) => line === `The client at ('127.0.0.1', ${peer.port}) says '${MESSAGE}'`,
    ).length;
    for (let i = 0; i < said; i++) await peer.receive();
    expect(dropped + said).toBe(requests);
    expect(peer.received).toEqual([]);
    return dropped;
  }

  test("0 drops nothing, 1 everything", async () => {
    expect(await count(200, " --drop 0")).toBe(0);
    expect(await count(200, " --drop 1")).toBe(200);
  });

  // 1,000 fair coins have a standard deviation of 15.8: over 5.1 of them from 500 is one run in three million.
  test.each(["", " --drop 0.5"])("is a half by default and for 0.5:%s", async (options) => {
    const dropped = await count(1000, options);
    expect(dropped).toBeGreaterThan(419);
    expect(dropped).toBeLessThan(581);
  });
});
