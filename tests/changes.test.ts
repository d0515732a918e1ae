/** What a reader changes in a listing does what it would do in Python, or says with file and line why not. */
import { afterAll, describe, expect } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Peer } from "./peers.ts";
import { noSignals, testUnless } from "./platform.ts";
import { type Running, run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const TOP = join(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "changes-"));
/** Here everything is put off to the turn's end, as else only where many datagrams come at once. */
const lateFolder = join(folder, "late");
mkdirSync(lateFolder);
for (const file of new Bun.Glob("*.ts").scanSync(TOP)) {
  cpSync(join(TOP, file), join(folder, file));
  cpSync(join(TOP, file), join(lateFolder, file));
}
const terminal = readFileSync(join(TOP, "terminal.ts"), "utf8");
if (!terminal.includes("const FEW = 8;")) throw new Error("terminal.ts has no FEW");
writeFileSync(join(lateFolder, "terminal.ts"), terminal.replace("const FEW = 8;", "const FEW = 0;"));
afterAll(() => rmSync(folder, { recursive: true }));
let copies = 0;

/** A copy of a script with some of its lines changed, each of which has to stand in it. */
function changed(script: string, ...edits: [before: string, after: string][]): string {
  return changedIn(folder, script, edits);
}

function changedIn(where: string, script: string, edits: [before: string, after: string][]): string {
  let text = readFileSync(join(TOP, script), "utf8");
  for (const [before, after] of edits) {
    if (!text.includes(before)) throw new Error(`${script} has no ${before}`);
    text = text.replace(before, after);
  }
  const copy = join(where, `copy${copies++}_${script}`);
  writeFileSync(copy, text);
  return copy;
}

/** A program of a reader's own beside the helpers. */
function program(text: string): string {
  const file = join(folder, `program${copies++}.ts`);
  writeFileSync(file, text);
  return file;
}

const SEND = "    sendTo(sock, message, address);\n";
const SERVERS: [script: string, when: string, options: string][] = [
  ["udp_local.ts", "at once", "server"],
  ["udp_local.ts", "at the turn's end", "server"],
  ["udp_remote.ts", "at once", "server 127.0.0.1 --drop 0"],
];
const replyTo = (text: string) => `Your data was ${text.length} bytes long`;

/** Asks all at once, which Bun hands over in one turn, where the server is suspended meanwhile. */
function askAtOnce(peer: Peer, server: Running & { port: number }, texts: string[]): void {
  server.kill("SIGSTOP");
  for (const text of texts) peer.send(text, server.port);
  server.kill("SIGCONT");
}

describe.each(SERVERS)("%s, answering %s", (script, when, options) => {
  const where = when === "at once" ? folder : lateFolder;
  const serveChanged = (...edits: [string, string][]) => serve(`${changedIn(where, script, edits)} ${options}`);

  for (const [how, wait] of [
    ["the server sleeps", "    await Bun.sleep(200);\n"],
    ["a timer replies", ""],
  ] as const) {
    test(`${how} for 200 ms before it answers`, async () => {
      const later = `    setTimeout(() => sendTo(sock, message, address), 200);\n`;
      const server = await serveChanged([SEND, wait === "" ? later : wait + SEND]);
      for (let i = 0; i < 3; i++) {
        using peer = await Peer.create();
        const begin = performance.now();
        peer.send("x".repeat(i), server.port);
        expect((await peer.receive()).text).toBe(replyTo("x".repeat(i)));
        const taken = performance.now() - begin;
        expect(taken).toBeGreaterThan(190);
        expect(taken).toBeLessThan(1000);
      }
    });
  }

  test("it answers twice", async () => {
    const server = await serveChanged([SEND, SEND + SEND]);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["a", "bb"]);
    const replies = [];
    for (let i = 0; i < 4; i++) replies.push((await peer.receive()).text);
    expect(replies).toEqual([replyTo("a"), replyTo("a"), replyTo("bb"), replyTo("bb")]);
  });

  test("it leaves the loop after the second request, and ends by itself", async () => {
    const count = ["  for await (", "  let count = 0;\n  for await ("] as [string, string];
    for (const together of [true, false]) {
      const server = await serveChanged(count, [SEND, `${SEND}    if (++count === 2) break;\n`]);
      using peer = await Peer.create();
      if (together) askAtOnce(peer, server, ["a", "bb", "ccc"]);
      else {
        for (const text of ["a", "bb"]) {
          peer.send(text, server.port);
          await peer.receive();
        }
      }
      const { status, out, err } = await server.end();
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(out).toEndWith(" says 'bb'\n");
      if (together) for (const text of ["a", "bb"]) expect((await peer.receive()).text).toBe(replyTo(text));
      expect(peer.received).toEqual([]);
    }
  });

  for (const [how, last] of [
    ["closes its socket", "sock.close();"],
    ["exits", "process.exit(0);"],
    ["exits with its own status", "process.exit(5);"],
  ] as const) {
    test(`it ${how} right after a reply`, async () => {
      for (const texts of [["a"], ["a", "bb", "last"]]) {
        const stop = `    if (text === "${texts.at(-1)}") ${last}\n`;
        const server = await serveChanged([SEND, SEND + stop]);
        using peer = await Peer.create();
        askAtOnce(peer, server, texts);
        const { status, out, err } = await server.end();
        expect({ status, err }).toEqual({ status: last.includes("5") ? 5 : 0, err: "" });
        for (const text of texts) expect((await peer.receive()).text).toBe(replyTo(text));
        expect(Array.from(out.matchAll(/ says '(.*)'/g), ([, text]) => text)).toEqual(texts);
      }
    });
  }

  test("a timer closes its socket: it ends", async () => {
    const server = await serveChanged(["  for await (", "  setTimeout(() => sock.close(), 100);\n  for await ("]);
    expect(await server.end()).toMatchObject({ status: 0, err: "" });
  });

  test("what stands after the loop is done when a timer closes the socket", async () => {
    const after = `${SEND}    setTimeout(() => sock.close(), 100);\n  }\n  print("over");\n`;
    const server = await serveChanged([`${SEND}  }\n`, after]);
    using peer = await Peer.create();
    peer.send("a", server.port);
    expect((await peer.receive()).text).toBe(replyTo("a"));
    const { status, out, err } = await server.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith(" says 'a'\nover\n");
  });

  test("what console.log shows stands where it would in Python", async () => {
    const shown = '    console.log("one");\n    print("two", text.length);\n    console.log("three");\n';
    const server = await serveChanged([SEND, shown]);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["a", "bb", "last"]);
    await server.line(/ says 'last'$/);
    await server.line("three");
    const lines = [1, 2, 4].flatMap((length) => ["one", `two ${length}`, "three"]);
    expect(Array.from(server.out.matchAll(/^(one|two \d|three)$/gm), ([line]) => line)).toEqual(lines);
  });

  test("a file that is not there is no matter of the network", async () => {
    const server = await serveChanged([SEND, '    await Bun.file("/no/such").text();\n']);
    using peer = await Peer.create();
    peer.send("hi", server.port);
    const { status, err } = await server.end();
    expect(status).toBe(1);
    expect(err).toContain("ENOENT");
    expect(err).not.toContain("Cannot send");
  });

  test("it sends the datagram back, as bytes", async () => {
    const server = await serveChanged([SEND, "    sendTo(sock, data, address);\n    data.fill(0);\n"]);
    using peer = await Peer.create();
    const texts = ["a\xff", "b", "c"];
    server.kill("SIGSTOP");
    for (const text of texts) peer.send(Buffer.from(text, "latin1"), server.port);
    server.kill("SIGCONT");
    for (const text of texts) expect((await peer.receive()).text).toBe(text);
  });

  test("it prints bytes, and several values", async () => {
    const server = await serveChanged([SEND, '    print(data);\n    print("so", 1, [2], { three: 3 });\n']);
    using peer = await Peer.create();
    peer.send("hi", server.port);
    await server.line("<Buffer 68 69>");
    await server.line("so 1 [ 2 ] { three: 3 }");
  });

  test("a typo is shown as Bun shows it", async () => {
    const server = await serveChanged([SEND, "    qoute(message);\n"]);
    using peer = await Peer.create();
    peer.send("hi", server.port);
    const { status, out, err } = await server.end();
    expect(status).toBe(1);
    expect(out).toEndWith(" says 'hi'\n");
    const line = readFileSync(join(TOP, script), "utf8").split(SEND)[0]?.split("\n").length;
    expect(err).toContain(`${line} |     qoute(message);\n`);
    expect(err).toContain("ReferenceError: qoute is not defined\n");
    expect(err).toMatch(new RegExp(`at server \\(.*copy\\d+_${script}:${line}:`));
  });

  for (const [what, wrong, error] of [
    ["no text", "sendTo(sock, 42 as any, address);", "TypeError"],
    ["no address", 'sendTo(sock, message, { address: "localhost", port: 5 });', "TypeError"],
    ["no port", "sendTo(sock, message, { ...address, port: 70_000 });", "TypeError"],
    ["a closed socket", "sock.close(); sendTo(sock, message, address);", "Socket is closed"],
    ["an own error", 'throw new Error("mine");', "error: mine"],
  ] as const) {
    test(`${what} to send is shown where it stands`, async () => {
      const server = await serveChanged([SEND, `    ${wrong}\n`]);
      using peer = await Peer.create();
      askAtOnce(peer, server, ["hi", "there"]);
      const { status, err } = await server.end();
      expect(status).toBe(1);
      expect(err).toContain(error);
      expect(err).toMatch(new RegExp(`at server \\(.*copy\\d+_${script}:`));
    });
  }

  test("what it does to its socket comes after what it has sent", async () => {
    const between = `${SEND}    sock.send("between", address.port, address.address);\n`;
    const server = await serveChanged([SEND, between]);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["a", "bb"]);
    const replies = [];
    for (let i = 0; i < 4; i++) replies.push((await peer.receive()).text);
    expect(replies).toEqual([replyTo("a"), "between", replyTo("bb"), "between"]);
  });

  test("a reply that is too long is said, and the server goes on", async () => {
    const server = await serveChanged([
      SEND,
      '    sendTo(sock, text === "long" ? "x".repeat(70_000) : message, address);\n',
    ]);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["a", "long", "bb"]);
    for (const text of ["a", "bb"]) expect((await peer.receive()).text).toBe(replyTo(text));
    await server.until("report", () => server.err !== "");
    expect(server.err).toMatch(/^Cannot answer \('127\.0\.0\.1', \d+\): .*EMSGSIZE.*\n$/);
  });
});

describe("a client", () => {
  test("sends three requests and prints three replies from one loop", async () => {
    const server = await serve("udp_local.ts server");
    const copy = changed(
      "udp_local.ts",
      [
        "  print(`The OS assigned",
        "  sock.send('second', port, LOOPBACK);\n  sock.send('the third', port, LOOPBACK);\n  let count = 0;\n  print(`The OS assigned",
      ],
      ["    break;\n", "    if (++count === 3) break;\n"],
    );
    const { status, out, err } = await run(`${copy} client -p ${server.port}`);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out.match(/(?<=was )\d+/g)).toEqual(["38", "6", "9"]);
  });

  test("takes two replies with two receives", async () => {
    const server = await serve("udp_local.ts server");
    const two = program(`
      import { print, repr } from "./terminal.ts";
      import { Inbox } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: inbox });
      for (const text of ["first", "the second"]) sock.send(text, ${server.port}, "127.0.0.1");
      const [one] = await inbox.receive();
      const [two] = await inbox.receive();
      print(repr(one), repr(two));
      sock.close();`);
    expect(await run(two)).toEqual({
      status: 0,
      out: "'Your data was 5 bytes long' 'Your data was 10 bytes long'\n",
      err: "",
    });
  });

  test("with a request of 70,000 bytes says at once that it is too long", async () => {
    using peer = await Peer.create();
    const remote = changed("udp_remote.ts", ["This is another message", "#".repeat(70_000)]);
    const local = changed("udp_local.ts", ["The time is", "#".repeat(70_000)]);
    for (const copy of [remote, local]) {
      const begin = performance.now();
      const { status, err } = await run(`${copy} client -p ${peer.port}`);
      expect({ status, err }).toEqual({
        status: 1,
        err: `Message too long to be sent to ('127.0.0.1', ${peer.port}) in one datagram\n`,
      });
      expect(performance.now() - begin).toBeLessThan(2000);
    }
  });

  test("whose first wait is over the limit says what is wrong", async () => {
    using peer = await Peer.create();
    const copy = changed("udp_remote.ts", ["backoff()", "backoff({ first: 5 })"]);
    const { status, err } = await run(`${copy} client -p ${peer.port}`);
    expect(status).toBe(1);
    expect(err).toContain("RangeError: backoff needs 0 < first <= limit");
    expect(err).toContain(copy.split("/").at(-1) ?? "");
  });
});

describe("a program of a reader's own", () => {
  test("sends the bytes of any view, and has one inbox for two sockets", async () => {
    const views = program(`
      import { Inbox, sendTo } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const open = () => Bun.udpSocket({ hostname: "127.0.0.1", socket: inbox });
      const [one, two] = [await open(), await open()];
      const bytes = new Uint8Array([1, 2, 3, 4]);
      for (const view of [new DataView(bytes.buffer, 1, 2), new Uint16Array(bytes.buffer), "text"]) {
        sendTo(one, view, two.address);
        sendTo(two, view, one.address);
      }
      let count = 0;
      for await (const [data] of inbox) {
        console.log(data.toString("hex"));
        if (++count === 6) {
          one.close();
          sendTo(two, "last", two.address);
          setTimeout(() => two.close(), 100);
        }
      }
      console.log("over");`);
    const { status, out, err } = await run(views);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    const twice = ["0203", "01020304", "74657874"].flatMap((hex) => [hex, hex]);
    const lines = out.split("\n").slice(0, -1);
    expect([...lines.slice(0, 6)].sort()).toEqual(twice.sort());
    expect(lines.slice(6)).toEqual([Buffer.from("last").toString("hex"), "over"]);
  });

  test("is told where it sends what can't be sent", async () => {
    const address = '{ address: "127.0.0.1", port: 9 }';
    for (const line of [`sendTo(sock, "x", ${address});`, `sendTo(sock, [1, 2], ${address});`, "sendTo(sock, 5);"]) {
      const wrong = program(`
      import { Inbox, sendTo } from "./udp_helpers.ts";
      const sock = await Bun.udpSocket({ connect: ${address.replace("address", "hostname")}, socket: new Inbox() });
      ${line}
      sock.close();`);
      const { status, err } = await run(wrong);
      expect(status).toBe(1);
      expect(err).toMatch(/(TypeError|error): .*at .*program\d+\.ts:4:/s);
    }
  });

  test("echoes on an Inbox, and ends when it closes its socket", async () => {
    const echo = program(`
      import { Inbox, sendTo } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const sock = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0, socket: inbox });
      console.log(\`Listening at ('127.0.0.1', \${sock.port})\`);
      for await (const [data, address] of inbox) {
        sendTo(sock, data, address);
        if (data.toString() === "stop") sock.close();
      }
      console.log("done");`);
    const server = start(echo);
    const [, port] = await server.line(/ (\d+)\)$/);
    using peer = await Peer.create();
    for (const text of ["hello", "", "stop"]) {
      peer.send(text, Number(port));
      expect((await peer.receive()).text).toBe(text);
    }
    expect(await server.end()).toMatchObject({ status: 0, err: "" });
    expect(server.out).toEndWith("\ndone\n");
  });

  test("collects what comes within a second, then goes on with the rest", async () => {
    const collect = program(`
      import { Inbox } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: inbox });
      const texts = ["one", "two", "three", "four"];
      for (const text of texts) sock.send(text, sock.port, "127.0.0.1");
      for await (const [data] of inbox.within(5)) {
        console.log(data.toString());
        if (data.toString() === "two") break;
      }
      for await (const [data] of inbox.within(0.2)) console.log("then", data.toString());
      console.log("over");
      sock.close();`);
    const out = "one\ntwo\nthen three\nthen four\nover\n";
    expect(await run(collect)).toEqual({ status: 0, out, err: "" });
  });

  test("takes two datagrams at once, and hears of a refusal once", async () => {
    const both = program(`
      import { Inbox } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: inbox });
      const two = Promise.all([inbox.receive(), inbox.receive()]);
      for (const text of ["one", "two"]) sock.send(text, sock.port, "127.0.0.1");
      console.log((await two).map(([data]) => data.toString()).join());
      const { port } = sock;
      sock.close();
      const refused = new Inbox();
      const connected = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port }, socket: refused });
      connected.send("anybody?");
      await Bun.sleep(50); // it waits for whoever comes
      try { await refused.receive(); } catch (error) { console.log(error.code); }
      for await (const _ of refused.within(0.1)) console.log("again");
      connected.close();`);
    expect(await run(both)).toEqual({ status: 0, out: "one,two\nECONNREFUSED\n", err: "" });
  });

  test.each([
    [
      "backoff",
      'import { backoff } from "./udp_helpers.ts"; console.log([...backoff()].join());',
      "0.1,0.2,0.4,0.8,1.6",
    ],
    [
      "sameAddress",
      'import { sameAddress } from "./udp_helpers.ts"; const a = { address: "::1", port: 1 }; console.log(sameAddress(a, { ...a }));',
      "true",
    ],
    [
      "the request IDs",
      'import { newRequestId, requestIdOf } from "./udp_helpers.ts"; const id = newRequestId(); console.log(requestIdOf(id + "text") === id);',
      "true",
    ],
    [
      "repr of what else there is",
      'import { repr } from "./terminal.ts"; console.log(repr(5 as any), repr([1, 2] as any), repr(null as any));',
      "5 [ 1, 2 ] null",
    ],
    [
      "repr",
      'import { repr } from "./terminal.ts"; console.log(repr(Buffer.from([27])), repr({ address: "10.0.0.1", port: 5 }));',
      "'\\x1b' ('10.0.0.1', 5)",
    ],
  ])("takes %s alone", async (_, text, out) => {
    expect(await run(program(text))).toEqual({ status: 0, out: `${out}\n`, err: "" });
  });
});

const tsc = join(TOP, "node_modules/.bin/tsc");
const noTypes = existsSync(tsc) ? "" : "there is no tsc here, which `bun install` brings";
const typesTest = testUnless(noSignals, noTypes);

typesTest("the types are content with bytes, and with what Bun's sockets can do", () => {
  const edit = "    sendTo(sock, data, address);\n    sendTo(sock, message, address);\n    sock.setTTL(1);\n";
  const own = mkdtempSync(join(tmpdir(), "types-"));
  for (const file of ["terminal.ts", "udp_helpers.ts", "tsconfig.json"]) cpSync(join(TOP, file), join(own, file));
  cpSync(changed("udp_local.ts", [SEND, edit]), join(own, "udp_local.ts"));
  symlinkSync(join(TOP, "node_modules"), join(own, "node_modules"));
  const { exitCode, stdout } = Bun.spawnSync([tsc, "--noEmit"], { cwd: own });
  expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 0, stdout: "" });
  rmSync(own, { recursive: true });
});
