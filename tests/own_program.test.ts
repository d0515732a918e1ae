/** A program of a reader's own, on the socket of the listings: what Python's socket would do, this one does. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { notLinux, skips } from "./support/machine.ts";
import { networkTest, threeHosts } from "./support/network.ts";
import { closedPort, Peer } from "./support/peers.ts";
import { LONG, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const PRELUDE = `
  import { codeOf, print, repr } from "./terminal.ts";
  import { udpSocket } from "./udp_socket.ts";
  const hostname = "127.0.0.1";
  const seconds = async (work) => { const begin = performance.now(); await work(); return (performance.now() - begin) / 1000; };
`;

/** Runs a program beside the listings, with what nearly all of them need. */
const program = (text: string) => run(["-e", PRELUDE + text]);

/** The lines of a program that goes well. */
async function linesOf(text: string): Promise<string[]> {
  const { status, out, err } = await program(text);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  return out.split("\n").slice(0, -1);
}

describe("a socket that is closed from outside", () => {
  test("before any datagram came ends the loop", async () => {
    const lines = await linesOf(`
      const sock = await udpSocket({ hostname });
      setTimeout(() => sock.close(), 100);
      for await (const _ of sock) print("never");
      print("over");`);
    expect(lines).toEqual(["over"]);
  });

  test("ends a receive, which throws, and a within at once", async () => {
    const lines = await linesOf(`
      const sock = await udpSocket({ hostname });
      setTimeout(() => sock.close(), 100);
      try { await sock.receive(); } catch (error) { print(error.message); }
      try { await sock.receive(5); } catch (error) { print(error.message); }
      print(await seconds(async () => { for await (const _ of sock.within(5)); }) < 1);`);
    expect(lines).toEqual(["The socket is closed", "The socket is closed", "true"]);
  });
});

describe("a program ends when nobody waits any more", () => {
  test("though its socket was never closed", async () => {
    expect(await linesOf(`await udpSocket({ hostname }); print("made");`)).toEqual(["made"]);
  });

  test("also a client that does not close its socket", async () => {
    await using server = await serve("udp_local.ts server");
    const lines = await linesOf(`
      const sock = await udpSocket({ connect: { hostname, port: ${server.port} } });
      sock.send("hello");
      for await (const [data] of sock) { print(data.toString()); break; }`);
    expect(lines).toEqual(["Your data was 5 bytes long"]);
  });

  test("and where ten clients ask at the same time, one of which is refused", async () => {
    await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
    const lines = await linesOf(`
      import { client } from "./udp_remote.ts";
      try { await client(hostname, ${await closedPort()}); } catch (error) { print(codeOf(error)); }
      await Promise.all(Array.from({ length: 10 }, () => client(hostname, ${server.port})));
      print("all");`);
    expect(lines.filter((line) => line === "The server says 'Your data was 23 bytes long'")).toHaveLength(10);
    expect(lines).toContain("ECONNREFUSED");
    expect(lines.at(-1)).toBe("all");
  });
});

test("what was sent before a socket is closed arrives", async () => {
  using peer = await Peer.create();
  await linesOf(`{
      using sock = await udpSocket({ hostname });
      for (let i = 0; i < 40; i++) sock.sendTo("number " + i, { address: hostname, port: ${peer.port} });
    }`);
  for (let i = 0; i < 40; i++) expect((await peer.receive()).text).toBe(`number ${i}`);
});

networkTest("a socket's option comes after what was sent before it", async (net) => {
  const [alice] = await threeHosts(net);
  const text = `
    const group = { address: "239.1.2.3", port: 5000 };
    using member = await udpSocket({ port: group.port });
    member.addMembership(group.address, "192.168.5.10");
    using sock = await udpSocket({});
    sock.setMulticastInterface("192.168.5.10");
    for (let i = 0; i < 20; i++) sock.sendTo("x", group);
    sock.setMulticastLoopback(false);
    sock.sendTo("unheard", group);
    let count = 0;
    for await (const _ of member.within(0.5)) count++;
    print(count);`;
  expect(await run(["-e", PRELUDE + text], alice)).toEqual({ status: 0, out: "20\n", err: "" });
});

describe("receive", () => {
  test("gives up after some silence, and takes the next reply", async () => {
    await using server = await serve("udp_local.ts server");
    const [code, waited, reply] = await linesOf(`
      using sock = await udpSocket({ connect: { hostname, port: ${server.port} } });
      print(await seconds(async () => { try { await sock.receive(0.2); } catch (error) { print(codeOf(error)); } }));
      sock.send("a question");
      const [data, address] = await sock.receive(1);
      print(String(data), \`\${address}\`);`);
    expect(code).toBe("ETIMEDOUT");
    expect(Number(waited)).toBeGreaterThan(0.19);
    expect(Number(waited)).toBeLessThan(1);
    expect(reply).toBe(`Your data was 10 bytes long ('127.0.0.1', ${server.port})`);
  });

  test("says at once that a host refuses, once", async () => {
    const [code, waited, nothing] = await linesOf(`
      using sock = await udpSocket({ connect: { hostname, port: ${await closedPort()} } });
      sock.send("anybody?");
      print(await seconds(async () => { try { await sock.receive(5); } catch (error) { print(codeOf(error)); } }));
      try { await sock.receive(0.1); } catch (error) { print(codeOf(error)); }`);
    expect([code, nothing]).toEqual(["ECONNREFUSED", "ETIMEDOUT"]);
    expect(Number(waited)).toBeLessThan(1);
  });

  test("called twice at once takes two datagrams, in order", async () => {
    const lines = await linesOf(`
      using sock = await udpSocket({ hostname });
      const two = Promise.all([sock.receive(), sock.receive()]);
      for (const text of ["one", "two"]) sock.sendTo(text, sock.address);
      print((await two).map(([data]) => data.toString()).join());`);
    expect(lines).toEqual(["one,two"]);
  });
});

describe("within", () => {
  test("ends in time while datagrams come", async () => {
    using peer = await Peer.create();
    await using collector = start([
      "-e",
      `${PRELUDE}
      using sock = await udpSocket({ connect: { hostname, port: ${peer.port} } });
      sock.send("begin");
      let count = 0;
      print(await seconds(async () => { for await (const _ of sock.within(1)) count++; }), count);`,
    ]);
    const { port } = await peer.receive();
    const timer = setInterval(() => peer.send("x", port), 100);
    const [, seconds, count] = await collector.line(/^([\d.]+) (\d+)$/);
    clearInterval(timer);
    expect(Number(seconds)).toBeGreaterThan(0.99);
    expect(Number(seconds)).toBeLessThan(2);
    expect(Number(count)).toBeGreaterThan(1);
  });

  test("takes no time that is none", async () => {
    for (const time of ["-1", "NaN"]) {
      const { status, err } = await program(
        `using sock = await udpSocket({}); for await (const _ of sock.within(${time}));`,
      );
      expect({ status, err }).toEqual({
        status: 1,
        err: expect.stringContaining(`RangeError: a wait takes seconds from 0 up, not ${time}`),
      });
    }
  });

  test("left in the middle leaves the rest to the next taker", async () => {
    const lines = await linesOf(`
      using sock = await udpSocket({ hostname });
      for (const text of ["one", "two", "three", "four"]) sock.sendTo(text, sock.address);
      for await (const [data] of sock.within(5)) { print(data.toString()); if (String(data) === "two") break; }
      for await (const [data] of sock.within(0.2)) print("then", data.toString());`);
    expect(lines).toEqual(["one", "two", "then three", "then four"]);
  });
});

test("print writes where it stands, as it is, and addresses and bytes as Python", async () => {
  const lines = await linesOf(`
    import { Address } from "./udp_socket.ts";
    const address = new Address(hostname, 1060);
    for (let i = 0; i < 3; i++) { print("print", i); console.log("console.log", i); }
    print("50%d", 1);
    print(address);
    print(\`\${address}\`, repr(Buffer.from("it is \\xff", "latin1")), [1]);`);
  expect(lines).toEqual([
    ...[0, 1, 2].flatMap((i) => [`print ${i}`, `console.log ${i}`]),
    "50%d 1",
    "('127.0.0.1', 1060)",
    "('127.0.0.1', 1060) b'it is \\xff' [ 1 ]",
  ]);
});

test.skipIf(skips(notLinux))("a broadcast without setBroadcast(true) says what it needs, and goes on", async () => {
  const why = "a broadcast needs sock.setBroadcast(true), or a route forbids it";
  const text = `
    using sock = await udpSocket({});
    sock.sendTo("x", { address: "127.255.255.255", port: 5000 });
    print("on");`;
  expect(await program(text)).toEqual({
    status: 0,
    out: "on\n",
    err: `Permission denied to send to ('127.255.255.255', 5000): ${why}\n`,
  });
});
