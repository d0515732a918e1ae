/** A program of a reader's own, on the socket of the listings: what Python's socket would do, this one does. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { threeHosts } from "../experiments/network.ts";
import { copyOfSuite } from "./support/folders.ts";
import { missing, networkTest, notLinux, skips } from "./support/machine.ts";
import { Actor, closedPort, LOOPBACK } from "./support/peers.ts";
import { LONG, type Place, run, serve, start } from "./support/processes.ts";

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

/** A test that a program, which is the template, prints these lines and nothing else. */
const prints =
  (name: string, lines: string, one: (name: string, body: () => Promise<void>) => void = test) =>
  (program: TemplateStringsArray) =>
    one(name, async () => expect(await linesOf(program.join(""))).toEqual(lines.split("\n")));

prints("a closed socket ends each wait at once, and sends nothing", "EBADF EBADF EBADF\ntrue")`
  setTimeout(() => peer.close(), 100);
  for await (const _ of peer);
  const send = async () => peer.send("x", connect.port, hostname);
  print(await codeFrom(peer.receive()), await codeFrom(peer.receive(5)), await codeFrom(send()));
  print(await takes(0, async () => { for await (const _ of peer.within(5)); }));`;

prints("receive gives up after some silence, and takes the next reply", "ETIMEDOUT\ntrue\na question! true")`
  const sock = await udpSocket({ connect });
  print(await takes(0.2, async () => print(await codeFrom(sock.receive(0.2)))));
  sock.send("a question");
  const [question, client] = await peer.receive();
  peer.sendTo(question + "!", client);
  const [answer, server] = await sock.receive(1);
  print(answer.toString(), server.port === connect.port);`;

prints("two that receive at once take two datagrams, in order", "one,two")`
  const two = Promise.all([peer.receive(), peer.receive()]);
  for (const text of ["one", "two"]) peer.sendTo(text, peer.address);
  print((await two).map(([data]) => data).join());`;

prints("a receive that gives up does not let go of one that waits on", "ETIMEDOUT\nlate")`
  peer.receive().then(([data]) => print(data.toString()));
  print(await codeFrom(peer.receive(0.1)));
  setTimeout(() => peer.sendTo("late", peer.address), 200).unref();`;

prints("receive(0) and within(0) take what has come, and wait for nothing", "true\ntrue true\ntrue", test.serial)`
  const sender = \`const sock = await Bun.udpSocket({});
    for (;; Bun.sleepSync(0.5)) sock.send("x", \${connect.port}, "127.0.0.1");\`;
  await using child = Bun.spawn([process.execPath, "-e", sender]);
  await peer.receive();
  print(await takes(0, async () => { while ((await codeFrom(peer.receive(0))) === "none"); }));
  Bun.sleepSync(200);
  let count = 0;
  print(await takes(0, async () => { for await (const _ of peer.within(0)) count++; }), count > 0);
  await Bun.sleep(300);
  print(await takes(0.1, async () => { for await (const _ of peer.within(0.1)) Bun.sleepSync(20); }));`;

prints("a socket that is held by ref() holds the program", "held")`
  peer.ref();
  await codeFrom(peer.receive(0.01));
  setTimeout(() => { print("held"); peer.close(); }, 100).unref();`;

prints("a wait of a century takes no CPU time", "true")`
  peer.receive(3e9);
  const before = process.cpuUsage();
  await Bun.sleep(1000);
  const { user, system } = process.cpuUsage(before);
  print(user + system < 500_000);
  process.exit();`;

prints("a program ends once it has its answer, and waits in vain no longer than it says", "true\ntrue")`
  process.on("exit", () => print(performance.now() < 5000));
  print(await takes(0.4, async () => { for (let i = 0; i < 40; i++) await codeFrom(peer.receive(0.01)); }));
  peer.sendTo("x", peer.address);
  await peer.receive(10);`;

prints("within ends in time while datagrams come", "true true")`
  setInterval(() => peer.sendTo("x", peer.address), 100).unref();
  let count = 0;
  print(await takes(1, async () => { for await (const _ of peer.within(1)) count++; }), count > 1);`;

prints("a loop that is left in the middle leaves the rest to the next taker", "one\ntwo\nthen three\nthen four")`
  for (const text of ["one", "two", "three", "four"]) peer.sendTo(text, peer.address);
  for await (const [data] of peer.within(5)) { print(data.toString()); if (String(data) === "two") break; }
  for await (const [data] of peer.within(0.2)) print("then", data.toString());`;

prints("what comes to a full queue is lost, as in the kernel, not what came before", "256 x0 x255")`
  for (let i = 0; i < 400; i++) { peer.sendTo("x" + i, peer.address); await new Promise(setImmediate); }
  const texts = []; for await (const [data] of peer.within(0.5)) texts.push(data.toString());
  print(texts.length, texts[0], texts.at(-1));`;

prints("a program that takes nothing does not fill the memory", "true")`
  using sock = await udpSocket({ hostname });
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 20_000; i++) {
    sock.sendTo("x".repeat(9000), peer.address);
    await new Promise(setImmediate);
  }
  print(process.memoryUsage.rss() - before < 100 * 2 ** 20);`;

prints("ten sends, and 300, to nobody leave one old refusal, and then the reply", "ECONNREFUSED ok\nECONNREFUSED ok")`
  const sock = await udpSocket({ connect });
  peer.close();
  for (const count of [10, 300]) {
    for (let i = 0; i < count; i++) { sock.send("anybody?"); await Bun.sleep(1); }
    using server = await udpSocket(connect);
    sock.send("a question");
    const [, client] = await server.receive();
    server.sendTo("ok", client);
    await Bun.sleep(50);
    print(await codeFrom(sock.receive(1)), String((await sock.receive(1))[0]));
  }`;

prints("an address is a pair", "127.0.0.1 true true [ '127.0.0.1' ] true true true")`
  const [host, port] = peer.address;
  const own = peer.address;
  print(host, port === connect.port, own[1] === port, own.filter(isNaN), JSON.stringify(own) === '["127.0.0.1",' + port + "]",
    String((await udpSocket({ connect: own })).remoteAddress) === String(own),
    String((await udpSocket({ connect: { address: host, port } })).remoteAddress) === String(own));`;

prints("a connected socket has the address and the port that it was given", "true true IPv4 IPv4")`
  let port = 0;
  { using one = await udpSocket({ hostname }); port = one.address.port; }
  using sock = await udpSocket({ hostname, port, connect });
  sock.send("x");
  const [, sender] = await peer.receive();
  print(sender.port === port, sock.address.port === port, sock.address.family, sender.family);`;

prints("a socket that its block closes wakes whoever waits", "The socket is closed")`
  let waiting;
  { using one = await udpSocket({ hostname }); waiting = one.receive().catch(({ message }) => message); }
  print(await waiting);`;

prints("28,000 sockets, one after the other, keep no memory", "true")`
  const memory = async (sockets) => {
    for (let i = 0; i < sockets; i++) { using sock = await udpSocket({ hostname }); }
    Bun.gc(true);
    return process.memoryUsage.rss();
  };
  print(-(await memory(8000)) + (await memory(20_000)) < 8 * 2 ** 20);`;

prints("a socket's option that the system refuses is said", "does not take\ndoes not tell")`
  const { getsockopt, setsockopt } = await import("./udp_socket.ts");
  for (const ask of [() => setsockopt(peer, 0, 9999, 1), () => getsockopt(peer, 0, 9999)]) {
    try { ask(); } catch (error) { print(error.message.match(/does not \\w+/)[0]); }
  }`;

const PRINTED = String.raw`print 0|console.log 0|50%d 1|('127.0.0.1', 1060) b'it is \xff' [ 1 ]`;
prints("print writes where it stands, as it is, and addresses and bytes as Python does", PRINTED.replaceAll("|", "\n"))`
  const address = new Address(hostname, 1060);
  print("print", 0);
  console.log("console.log", 0);
  print("50%d", 1);
  print(address, Buffer.from("it is \\xff", "latin1"), [1]);`;

describe("an uncaught error shows the reader's line:", () => {
  const folder = copyOfSuite();
  let programs = 0;
  /** What a program says, and the line that the error comes from. On a busy machine Bun shows its number alone. */
  const shown = async (text: string) => {
    const file = join(folder, `program${programs++}.ts`);
    writeFileSync(file, PRELUDE + text);
    const { status, err } = await run(file);
    const [, where, number] = err.match(/^ +at (?:.* \()?(.*?):(\d+):\d+\)?$/m) ?? [];
    return { status, err, line: where === file && (PRELUDE + text).split("\n")[Number(number) - 1] };
  };
  const refused = `peer.close(); const sock = await udpSocket({ connect }); sock.send("x");`;
  test.each([
    ["", "await peer.receive(0.2);", "error: Nothing came in 0.2 seconds"],
    ["", "await peer.receive(-1);", "RangeError: a wait takes seconds from 0 up, not -1"],
    ["", "for await (const _ of peer.within(NaN));", "RangeError: a wait takes seconds from 0 up, not NaN"],
    ["", "peer.setTTL(300);", "EINVAL: invalid argument, setsockopt"],
    ["", "await udpSocket({ connect: { hostname } });", "TypeError"],
    [refused, "await sock.receive();", "ECONNREFUSED"],
    [refused, "for await (const _ of sock);", "ECONNREFUSED"],
    [refused, "for await (const _ of sock.within(5));", "ECONNREFUSED"],
    ["", "await udpSocket(connect);", "bind EADDRINUSE"],
    ["", 'await udpSocket({ hostname: "a..b" });', "error: Unknown host 'a..b'"],
    ["", "await udpSocket({ hostname, port: 99_999 });", "TypeError"],
    ["", "await udpSocket({ host: hostname });", "TypeError: udpSocket takes hostname and port, not host"],
    ["using sock = await udpSocket({});", "const [data] = sock.receive();", "TypeError: {} is not iterable"],
    ["const sock = await udpSocket({ connect });", 'sock.send("x".repeat(70_000));', "EMSGSIZE"],
  ] as const)("%s %s", async (before, line, message) => {
    const wholes = [`${before}\n${line}`, `async function ask() {\n${before}\n${line}\n}\nawait ask();`];
    for (const said of await Promise.all(wholes.map(shown))) {
      expect(said).toEqual({ status: 1, err: expect.stringContaining(message), line });
    }
  });
});

test.each([
  "udpSocket({ hostname }).then((sock) => sock.receive(0.2)).catch(fail);",
  'main("", { "": { run: async () => void (await peer.receive(0.2)) } });',
])("silence that ends a program is one line: %s", async (text) => {
  const program = `import { fail, main } from "./terminal.ts"; setInterval(() => {}, 1000); ${text}`;
  const { status, err } = await run(["-e", PRELUDE + program]);
  expect({ status, err }).toEqual({ status: 1, err: "Nothing came in 0.2 seconds\n" });
});

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

test.skipIf(skips(notLinux))("a broadcast without setBroadcast(true) says what it needs, and goes on", async () => {
  const text = `peer.sendTo("x", { address: "127.255.255.255", port: 5000 }); print("on");`;
  const err =
    "Permission denied to send to ('127.255.255.255', 5000): a broadcast needs sock.setBroadcast(true), or a route forbids it\n";
  expect(await run(["-e", PRELUDE + text])).toEqual({ status: 0, out: "on\n", err });
});

/** Tests on links that tc makes slow. */
const slowLink = skips(missing("tc")) ? test.skip : networkTest;

slowLink("what is sent faster than a link carries it waits, and arrives", async (net) => {
  const [alice, bob] = await threeHosts(net);
  alice.sh("tc qdisc add dev eth0 root tbf rate 1mbit burst 10kb limit 1mb");
  await using server = await serve("udp_broadcast.ts server", bob);
  await linesOf(
    `const to = { address: "192.168.5.11", port: ${server.port} };
    using sock = await udpSocket({ connect: to });
    for (let i = 0; i < 1000; i++) sock.send("hello");
    using other = await udpSocket({});
    for (let i = 0; i < 1000; i++) other.sendTo("hello", to);`,
    alice,
  );
  // A busy machine takes them late, and the kernel drops what its buffer has no room for.
  await server.until("nearly all", () => server.out.split("\n").length > 1900);
});

slowLink("a link that takes nothing holds up a program once, and its Ctrl-C no longer", async (net) => {
  // Not the loopback: what waits there would outlive the test, and keep the host, and the kernel's ICMP its buffer.
  const [alice] = await threeHosts(net);
  alice.sh("tc qdisc add dev eth0 root tbf rate 8bit burst 10kb limit 1mb");
  const program = `
    process.on("SIGINT", () => { print("heard"); process.exit(); });
    print("full soon");
    const bob = { address: "192.168.5.11", port: 1060 };
    using sock = await udpSocket({});
    const fill = async () => { for (;;) sock.send("x".repeat(1000), bob.port, bob.address); };
    print(await codeFrom(fill()));
    print(await takes(0, async () => { for (let i = 0; i < 5; i++) sock.sendTo("x", bob); }));
    await Bun.sleep(1e6);`;
  await using own = start(["-e", PRELUDE + program], alice);
  await own.line("full soon");
  own.kill("SIGINT");
  await own.line("ENOBUFS");
  const { out, err } = await own.end();
  expect(out).toBe("full soon\nENOBUFS\ntrue\nheard\n");
  expect(err).toMatch(/^(Cannot send to \('192\.168\.5\.11', 1060\): ENOBUFS: no room to send it\n){5}$/);
});

networkTest("of two errors that came meanwhile the last is told, as the kernel does", async (net) => {
  const host = await net.host("host");
  await using actor = await Actor.create(host);
  const program = `
    const sock = await udpSocket({ hostname, connect: ${JSON.stringify(actor.address)} });
    sock.send("x");
    for await (const line of console) break;
    print(await codeFrom(sock.receive()));`;
  await using own = start(["-e", PRELUDE + program], host);
  const to = { address: LOOPBACK, port: (await actor.receive()).port };
  for (const code of [3, 13]) await actor.send({ errors: [[3, code]], to, from: actor.address });
  own.type("");
  expect(await own.done()).toBe("EHOSTUNREACH\n");
});

networkTest("a group that cannot be joined is said in one line, but a mistake where it stands", async (net) => {
  const join = `import { fail } from "./terminal.ts";
    try { peer.addMembership("224.0.0.251"); } catch (error) { fail(error); }`;
  const err = "Cannot set the socket's option: ENODEV: no such device\n";
  expect(await run(["-e", PRELUDE + join], await net.host("host"))).toEqual({ status: 1, out: "", err });
  const mistake = join.replace('addMembership("224.0.0.251")', "setTTL(300)");
  expect((await run(["-e", PRELUDE + mistake])).err).toMatch(/EINVAL: invalid argument, setsockopt\n(.*\n)+ +at /);
});
