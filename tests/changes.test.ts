/** What a reader changes in a listing does what it would do in Python, or says with file and line why not. */
import { afterAll, describe, expect } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closedPort, Peer } from "./peers.ts";
import { LARGEST, noSignals, testUnless } from "./platform.ts";
import { type Running, run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const TOP = join(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "changes-"));
for (const file of new Bun.Glob("*.ts").scanSync(TOP)) cpSync(join(TOP, file), join(folder, file));
afterAll(() => rmSync(folder, { recursive: true }));
let copies = 0;

/** A copy of a script with some of its lines changed, each of which has to stand in it. */
function changed(script: string, ...edits: [before: string, after: string][]): string {
  let text = readFileSync(join(TOP, script), "utf8");
  for (const [before, after] of edits) {
    if (!text.includes(before)) throw new Error(`${script} has no ${before}`);
    text = text.replace(before, after);
  }
  const copy = join(folder, `copy${copies++}_${script}`);
  writeFileSync(copy, text);
  return copy;
}

/** A program of a reader's own beside the helpers. */
function program(text: string): string {
  const file = join(folder, `program${copies++}.ts`);
  writeFileSync(file, text);
  return file;
}

const SEND = "    sock.sendTo(message, address);\n";
const SERVERS: [script: string, options: string][] = [
  ["udp_local.ts", "server"],
  ["udp_remote.ts", "server 127.0.0.1 --drop 0"],
];
const replyTo = (text: string) => `Your data was ${text.length} bytes long`;

/** Asks all at once: the server is suspended meanwhile. */
function askAtOnce(peer: Peer, server: Running & { port: number }, texts: string[]): void {
  server.kill("SIGSTOP");
  for (const text of texts) peer.send(text, server.port);
  server.kill("SIGCONT");
}

describe.each(SERVERS)("%s", (script, options) => {
  const serveChanged = (...edits: [string, string][]) => serve(`${changed(script, ...edits)} ${options}`);

  for (const [how, wait] of [
    ["the server sleeps", "    await Bun.sleep(200);\n"],
    ["a timer replies", ""],
  ] as const) {
    test(`${how} for 200 ms before it answers`, async () => {
      const later = `    setTimeout(() => sock.sendTo(message, address), 200);\n`;
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
    const server = await serveChanged([SEND, "    sock.sendTo(data, address);\n    data.fill(0);\n"]);
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
    ["a text that is too long to send", 'sock.sendTo("x".repeat(70_000), address);', "EMSGSIZE"],
    ["no text to send", "sock.sendTo(42 as any, address);", "TypeError"],
    ["no address to send to", 'sock.sendTo(message, { address: "localhost", port: 5 });', "TypeError"],
    ["no port to send to", "sock.sendTo(message, { ...address, port: 70_000 });", "TypeError"],
    ["a closed socket to send from", "sock.close(); sock.sendTo(message, address);", "Socket is closed"],
    ["an own error", 'throw new Error("mine");', "error: mine"],
    [
      "a log that cannot be written",
      'const { appendFileSync } = await import("node:fs"); appendFileSync("/no/such", text);',
      "ENOENT",
    ],
  ] as const) {
    test(`${what} is shown where it stands`, async () => {
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
});

describe("a client", () => {
  test("sends three requests and prints three replies from one loop", async () => {
    const server = await serve("udp_local.ts server");
    const copy = changed(
      "udp_local.ts",
      [
        "  print(`The OS assigned",
        "  sock.sendTo('second', destination);\n  sock.sendTo('the third', destination);\n  let count = 0;\n  print(`The OS assigned",
      ],
      ["      break;\n", "      if (++count < 3) continue;\n      break;\n"],
    );
    const { status, out, err } = await run(`${copy} client -p ${server.port}`);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out.match(/(?<=was )\d+/g)).toEqual(["38", "6", "9"]);
  });

  test("takes two replies with two receives", async () => {
    const server = await serve("udp_local.ts server");
    const two = program(`
      import { print, repr } from "./terminal.ts";
      import { udpSocket } from "./udp_socket.ts";
      using sock = await udpSocket({ hostname: "127.0.0.1" });
      for (const text of ["first", "the second"]) sock.send(text, ${server.port}, "127.0.0.1");
      const [one] = await sock.receive();
      const [two] = await sock.receive();
      print(repr(one.toString()), repr(two.toString()));`);
    expect(await run(two)).toEqual({
      status: 0,
      out: "'Your data was 5 bytes long' 'Your data was 10 bytes long'\n",
      err: "",
    });
  });

  test("whose first wait is over the limit says what is wrong", async () => {
    using peer = await Peer.create();
    const copy = changed("udp_remote.ts", ["backoff()", "backoff({ first: 5 })"]);
    const { status, err } = await run(`${copy} client -p ${peer.port}`);
    expect(status).toBe(1);
    expect(err).toContain("RangeError: backoff needs 0 < first (5) <= longest (2)");
    expect(err).toContain(copy.split("/").at(-1) ?? "");
  });
});

test("a server that sleeps shows each line, and sends each reply, when its line runs", async () => {
  const copy = changed("udp_local.ts", [SEND, `${SEND}    Bun.sleepSync(300);\n`]);
  let screen = "";
  const shown: number[] = [];
  const server = Bun.spawn([process.execPath, copy, "server", "-p", "0"], {
    terminal: {
      data: (_, data) => {
        screen += Buffer.from(data).toString();
        while (shown.length < screen.split("\n").length - 2) shown.push(performance.now());
      },
    },
  });
  await using _terminal = server.terminal as Bun.Terminal;
  while (!screen.includes("\n")) await Bun.sleep(5);
  using peer = await Peer.create();
  for (const text of ["a", "bb", "ccc"]) peer.send(text, Number(/(\d+)\)/.exec(screen)?.[1]));
  const replied: number[] = [];
  for (let i = 0; i < 3; i++) {
    await peer.receive();
    replied.push(performance.now());
  }
  server.kill();
  await server.exited;
  // Put off, they would come together.
  for (const [first = 0, second = 0, third = 0] of [replied, shown]) {
    expect(second - first).toBeGreaterThan(150);
    expect(third - second).toBeGreaterThan(150);
  }
});

describe("a request ID", () => {
  test.each(SERVERS)("of the reader's own is repeated by %s, and a monstrous one is none", async (script, options) => {
    const server = await serve(`${script} ${options}`);
    using peer = await Peer.create();
    const monster = `[${"x".repeat(LARGEST - 10)}] text`;
    for (const [text, id] of [
      ["[1] ", "[1] "],
      ["[my_question] what?", "[my_question] "],
      [monster, ""],
      ["on", ""],
    ] as const) {
      peer.send(text, server.port);
      const own = script === "udp_local.ts" ? "" : id; // Listing 2-1 has no request IDs
      expect((await peer.receive()).text).toBe(own + replyTo(text));
    }
  });
});

describe("bun --watch runs a client again when it is saved:", () => {
  const save = (file: string) => writeFileSync(file, `${readFileSync(file, "utf8")}\n`);

  test("one that is answered", async () => {
    const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
    const copy = changed("udp_remote.ts");
    const client = start(["--watch", "--no-clear-screen", copy, "client", "-p", String(server.port)]);
    for (let i = 0; i < 2; i++) {
      await client.line("The server says 'Your data was 23 bytes long'");
      save(copy);
    }
  });

  test("one that fails", async () => {
    const copy = changed("udp_remote.ts");
    const client = start(["--watch", "--no-clear-screen", copy, "client", "-p", String(await closedPort())]);
    for (let i = 1; i < 3; i++) {
      await client.until(`${i} failures`, () => client.err.split("Connection refused").length === i + 1);
      save(copy);
    }
  });
});

const tsc = join(TOP, "node_modules/.bin/tsc");
const noTypes = existsSync(tsc) ? "" : "there is no tsc here, which `bun install` brings";
const typesTest = testUnless(noSignals, noTypes);

/** What the type checker says of a changed listing. */
function typesOf(script: string, ...edits: [string, string][]): string {
  const own = mkdtempSync(join(tmpdir(), "types-"));
  for (const file of ["terminal.ts", "udp_helpers.ts", "udp_socket.ts", "tsconfig.json"])
    cpSync(join(TOP, file), join(own, file));
  cpSync(changed(script, ...edits), join(own, script));
  symlinkSync(join(TOP, "node_modules"), join(own, "node_modules"));
  const { stdout } = Bun.spawnSync([tsc, "--noEmit"], { cwd: own });
  rmSync(own, { recursive: true });
  return stdout.toString();
}

typesTest("the types are content with bytes, and with what Bun's sockets can do", () => {
  expect(typesOf("udp_local.ts", [SEND, `    sock.sendTo(data, address);\n${SEND}    sock.setTTL(1);\n`])).toBe("");
});

typesTest("a typo in what a role takes is a type error", () => {
  expect(typesOf("udp_local.ts", ["({ port }) => server(port)", "({ prot }) => server(prot)"])).toContain(
    "Property 'prot' does not exist",
  );
  expect(typesOf("udp_remote.ts", ["port, drop }) =>", "port, dorp }) =>"])).toContain(
    "Property 'dorp' does not exist",
  );
});
