/** A program of a reader's own, on the socket of the listings: what Python's socket would do, this one does. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { threeHosts } from "../experiments/network.ts";
import { notLinux, skips } from "./support/machine.ts";
import { networkTest } from "./support/network.ts";
import { closedPort } from "./support/peers.ts";
import { LONG, type Place, run, serve } from "./support/processes.ts";

setDefaultTimeout(LONG);

const PRELUDE = `
  import { codeOf, print, repr } from "./terminal.ts";
  import { Address, udpSocket } from "./udp_socket.ts";
  const hostname = "127.0.0.1";
  const peer = await udpSocket({ hostname });
  const connect = { hostname, port: peer.address.port };
  /** Whether something takes so many seconds: not less, and hardly more. */
  const takes = async (seconds, work) => {
    const begin = performance.now();
    await work();
    const taken = (performance.now() - begin) / 1000;
    return taken > seconds - 0.01 && taken < seconds + 1;
  };
  const codeFrom = (work) => work.then(() => "none", codeOf);
`;

/** Runs a program beside the listings, with what nearly all of them need, and returns what it prints if all goes well. */
async function linesOf(text: string, place?: Place): Promise<string[]> {
  const { status, out, err } = await run(["-e", PRELUDE + text], place);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  return out.split("\n").slice(0, -1);
}

test.each([
  [
    "a socket that is closed before any datagram came ends the loop",
    `setTimeout(() => peer.close(), 100); for await (const _ of peer) print("never"); print("over");`,
    ["over"],
  ],
  [
    "a socket that is closed ends a receive, which throws, and a within at once",
    `setTimeout(() => peer.close(), 100);
    for (const seconds of [undefined, 5]) try { await peer.receive(seconds); } catch (error) { print(error.message); }
    print(await takes(0, async () => { for await (const _ of peer.within(5)); }));`,
    ["The socket is closed", "The socket is closed", "true"],
  ],
  ["a program that waits for nothing ends, though its socket was never closed", `print("made");`, ["made"]],
  [
    "what was sent before a socket is closed arrives",
    `{ using sock = await udpSocket({ hostname }); for (let i = 0; i < 40; i++) sock.sendTo("x" + i, peer.address); }
    const texts = []; for await (const [data] of peer.within(0.3)) texts.push(data.toString());
    print(texts.length, texts.at(-1));`,
    ["40 x39"],
  ],
  [
    "receive gives up after some silence, and takes the next reply, from a socket that is never closed",
    `const sock = await udpSocket({ connect });
    print(await takes(0.2, async () => print(await codeFrom(sock.receive(0.2)))));
    sock.send("a question");
    const [question, client] = await peer.receive();
    peer.sendTo(question + "!", client);
    const [answer, server] = await sock.receive(1);
    print(answer.toString(), server.port === connect.port);`,
    ["ETIMEDOUT", "true", "a question! true"],
  ],
  [
    "receive says at once that a host refuses, once",
    `peer.close();
    using sock = await udpSocket({ connect });
    sock.send("anybody?");
    print(await takes(0, async () => print(await codeFrom(sock.receive(5)))));
    print(await codeFrom(sock.receive(0.1)));`,
    ["ECONNREFUSED", "true", "ETIMEDOUT"],
  ],
  [
    "two that receive at once take two datagrams, in order",
    `const two = Promise.all([peer.receive(), peer.receive()]);
    for (const text of ["one", "two"]) peer.sendTo(text, peer.address);
    print((await two).join());`,
    [expect.stringMatching(/^one,.*,two,/)],
  ],
  [
    "within ends in time while datagrams come",
    `setInterval(() => peer.sendTo("x", peer.address), 100).unref();
    let count = 0;
    print(await takes(1, async () => { for await (const _ of peer.within(1)) count++; }), count > 1);`,
    ["true true"],
  ],
  [
    "within takes no time that is none",
    `for (const time of [-1, NaN]) try { for await (const _ of peer.within(time)); } catch (error) { print(error.name); }`,
    ["RangeError", "RangeError"],
  ],
  [
    "a loop that is left in the middle leaves the rest to the next taker",
    `for (const text of ["one", "two", "three", "four"]) peer.sendTo(text, peer.address);
    for await (const [data] of peer.within(5)) { print(data.toString()); if (String(data) === "two") break; }
    for await (const [data] of peer.within(0.2)) print("then", data.toString());`,
    ["one", "two", "then three", "then four"],
  ],
  [
    "a program that takes nothing does not fill the memory",
    `using sock = await udpSocket({ hostname });
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 20_000; i++) {
      sock.sendTo("x".repeat(9000), peer.address);
      await new Promise(setImmediate);
    }
    print(process.memoryUsage.rss() - before < 100 * 2 ** 20);`,
    ["true"],
  ],
  [
    "print writes where it stands, as it is, and addresses and bytes as Python does",
    `const address = new Address(hostname, 1060);
    for (const i of [0, 1]) { print("print", i); console.log("console.log", i); }
    print("50%d", 1);
    print(address);
    print(\`\${address}\`, repr(Buffer.from("it is \\xff", "latin1")), [1]);`,
    [
      ...["print 0", "console.log 0", "print 1", "console.log 1", "50%d 1", "('127.0.0.1', 1060)"],
      "('127.0.0.1', 1060) b'it is \\xff' [ 1 ]",
    ],
  ],
])("%s", async (_, text, lines) => expect(await linesOf(text)).toEqual(lines));

test("ten clients of one program are answered, and one that is refused does not end it", async () => {
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  const lines = await linesOf(`
    import { client } from "./udp_remote.ts";
    print(await codeFrom(client(hostname, ${await closedPort()})));
    await Promise.all(Array.from({ length: 10 }, () => client(hostname, ${server.port})));
    print("all");`);
  expect(lines.filter((line) => line === "The server says 'Your data was 23 bytes long'")).toHaveLength(10);
  expect([lines[2], lines.at(-1)]).toEqual(["ECONNREFUSED", "all"]);
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
  expect(await linesOf(text, alice)).toEqual(["20"]);
});

test.skipIf(skips(notLinux))("a broadcast without setBroadcast(true) says what it needs, and goes on", async () => {
  const text = `peer.sendTo("x", { address: "127.255.255.255", port: 5000 }); print("on");`;
  const err =
    "Permission denied to send to ('127.255.255.255', 5000): a broadcast needs sock.setBroadcast(true), or a route forbids it\n";
  expect(await run(["-e", PRELUDE + text])).toEqual({ status: 0, out: "on\n", err });
});
