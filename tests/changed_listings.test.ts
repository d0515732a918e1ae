/** What a reader changes in a listing does what it would do in Python, or says with file and line why not. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyOfSuite } from "./support/folders.ts";
import { noTypes, skips, tsc } from "./support/machine.ts";
import { closedPort, Peer } from "./support/peers.ts";
import { LONG, type Running, run, serve, start, TOP } from "./support/processes.ts";
import { serveOnTerminal } from "./support/terminal.ts";

setDefaultTimeout(LONG);

const folder = copyOfSuite();
let copies = 0;

/** A copy of a script with some of its lines changed, each of which has to stand in it. */
function changed(script: string, ...edits: [before: string, after: string][]): string {
  let text = readFileSync(join(TOP, script), "utf8");
  for (const [before, after] of edits) {
    if (!text.includes(before)) throw new Error(`${script} has no ${before}`);
    text = text.replace(before, () => after);
  }
  const copy = join(folder, `copy${copies++}_${script}`);
  writeFileSync(copy, text);
  return copy;
}

/** The last line of a server's loop, the line before the loop, and the end of both. */
const SEND = "    sock.sendTo(message, address);\n";
const LOOP = "  for await (";
const END = `${SEND}  }\n`;
const serveChanged = (...edits: [string, string][]) => serve(`${changed("udp_local.ts", ...edits)} server`);
const replyTo = (text: string) => `Your data was ${text.length} bytes long`;

/** Asks all at once: the server is suspended meanwhile. */
function askAtOnce(peer: Peer, server: Running, texts: string[]): void {
  server.kill("SIGSTOP");
  for (const text of texts) peer.send(Buffer.from(text, "latin1"), server.port);
  server.kill("SIGCONT");
}

describe("a server", () => {
  const count: [string, string] = [LOOP, `  let count = 0;\n${LOOP}`];
  const afterSecond = (stop: string): [string, string][] => [count, [SEND, `${SEND}    if (++count === 2) ${stop}\n`]];
  const [a = "", bb = "", ccc = ""] = ["a", "bb", "ccc"].map(replyTo);
  test.each<[what: string, edits: [string, string][], replies: string[], last: string, status: number | null]>([
    ["sleeps before it answers", [[SEND, `    await Bun.sleep(100);\n${SEND}`]], [a, bb, ccc], "'ccc'", null],
    ["has a timer answer", [[SEND, `    setTimeout(() => {${SEND}}, 100);\n`]], [a, bb, ccc], "'ccc'", null],
    ["answers twice", [[SEND, SEND + SEND]], [a, a, bb, bb], "'ccc'", null],
    [
      "sends the datagram back, as bytes, and shows them",
      [[SEND, "    sock.sendTo(data, address);\n    print(data);\n    data.fill(0);\n"]],
      ["a", "bb", "ccc"],
      "b'ccc'",
      null,
    ],
    ["leaves the loop after the second of three requests", afterSecond("break;"), [a, bb], "'bb'", 0],
    ["closes its socket then", afterSecond("sock.close();"), [a, bb], "'bb'", 0],
    ["exits with its own status then", afterSecond("process.exit(5);"), [a, bb], "'bb'", 5],
    [
      "has a timer close its socket",
      [[END, `${SEND}    setTimeout(() => sock.close(), 100);\n  }\n  print("over");\n`]],
      [a, bb, ccc],
      "over",
      0,
    ],
  ])("that %s", async (_, edits, replies, last, status) => {
    await using server = await serveChanged(...edits);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["a", "bb", "ccc"]);
    for (const reply of replies) expect((await peer.receive()).text).toBe(reply);
    await server.until("last line", () => server.out.endsWith(`${last}\n`));
    if (status === null) return; // It goes on.
    expect(await server.end()).toMatchObject({ status, err: "" });
    expect(peer.received).toEqual([]);
  });

  test.serial("that sleeps after it shows each line, and sends each reply, when its line runs", async () => {
    const copy = changed("udp_local.ts", [SEND, `${SEND}    Bun.sleepSync(300);\n`]);
    await using server = await serveOnTerminal(copy, folder);
    using peer = await Peer.create();
    for (const text of ["a", "bb", "ccc"]) peer.send(text, server.port);
    const replied: number[] = [];
    for (let i = 0; i < 3; i++) {
      await peer.receive();
      replied.push(performance.now());
    }
    await server.until(() => server.shown.length === 4);
    // Put off, they would come together.
    for (const [first = 0, second = 0, third = 0] of [replied, server.shown.slice(1)]) {
      expect(second - first).toBeGreaterThan(150);
      expect(third - second).toBeGreaterThan(150);
    }
  });
});

describe("shown where it stands is", () => {
  test.each([
    ["a typo", "qoute(message);", "ReferenceError: qoute is not defined"],
    ["a text that is too long to send", 'sock.sendTo("x".repeat(70_000), address);', "EMSGSIZE"],
    ["no text to send", "sock.sendTo(42 as any, address);", "TypeError"],
    ["no address to send to", 'sock.sendTo(message, { address: "localhost", port: 5 });', "TypeError"],
    ["no port to send to", "sock.sendTo(message, { ...address, port: 99_999 });", "TypeError"],
    ["a closed socket to send from", "sock.close(); sock.sendTo(message, address);", "error: The socket is closed"],
    ["an own error", 'throw new Error("mine");', "error: mine"],
    ["a file that is not there", 'await Bun.file("/no/such").text();', "ENOENT"],
    [
      "a log that cannot be written",
      'const { appendFileSync } = await import("node:fs"); appendFileSync("/no/such", text);',
      "ENOENT",
    ],
  ])("%s", async (what, wrong, error) => {
    await using server = await serveChanged([SEND, `    ${wrong}\n`]);
    using peer = await Peer.create();
    askAtOnce(peer, server, ["hi", "there"]);
    const { status, out, err } = await server.end();
    expect(status).toBe(1);
    expect(out).toEndWith(" says 'hi'\n");
    expect(err).toContain(error);
    if (what === "a file that is not there") return; // Bun tells no line there.
    const line = readFileSync(join(TOP, "udp_local.ts"), "utf8").split(SEND)[0]?.split("\n").length;
    expect(err).toContain(`${line} |     ${wrong}\n`);
    expect(err).toMatch(new RegExp(`at server \\(.*copy\\d+_udp_local.ts:${line}:`));
  });

  test("a first wait that is over the limit", async () => {
    const copy = changed("udp_remote.ts", ["of backoff()", "of backoff({ first: 5 })"]);
    const { status, err } = await run(`${copy} client -p ${await closedPort()}`);
    expect(status).toBe(1);
    expect(err).toContain("RangeError: backoff needs 0 < first (5) <= longest (2)");
    expect(err).toMatch(/at client \(.*copy\d+_udp_remote.ts:\d+:/);
  });
});

test.each([
  ["udp_local.ts", "    break;\n", "replied"],
  ["udp_remote.ts", "      return;\n", "says"],
])("a client that takes all replies shows all, without a word of warning: %s", async (script, stop, says) => {
  using peer = await Peer.create();
  await using client = start(`${changed(script, [stop, ""])} client -p ${peer.port}`);
  const { port } = await peer.receive();
  for (const text of ["one", "two", "three"]) {
    peer.send(text, port);
    await client.line(new RegExp(`^The server .*${says} '${text}'$`));
  }
  expect(client.err).toBe("");
});

test("bun --watch runs a client again when it is saved, one that is answered and one that fails", async () => {
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  for (const [port, end] of [
    [server.port, "The server says 'Your data was 23 bytes long'\n"],
    [await closedPort(), "Connection refused by"],
  ] as const) {
    const copy = changed("udp_remote.ts");
    await using client = start(["--watch", "--no-clear-screen", copy, "client", "-p", String(port)]);
    for (const runs of [1, 2]) {
      await client.until(`${runs} ends`, () => (client.out + client.err).split(end).length === runs + 1);
      writeFileSync(copy, `${readFileSync(copy, "utf8")}\n`);
    }
  }
});

test.skipIf(skips(noTypes))(
  "the types know bytes and what Bun's sockets can do, and a typo in what a role takes",
  () => {
    const own = copyOfSuite("tsconfig.json");
    symlinkSync(join(TOP, "node_modules"), join(own, "node_modules"));
    const right = changed("udp_local.ts", [
      SEND,
      `    sock.sendTo(data, address);\n${SEND}    sock.setTTL(1);
    const [host, itsPort] = address;
    sock.send(data, address[1] + itsPort, host.trim());
    using other = await udpSocket({ connect: address });
    other.remoteAddress[1].toFixed();\n`,
    ]);
    const three = changed("udp_local.ts", ['{ hostname: "0.0.0.0" }', '{ connect: { hostname: "0.0.0.0" } }']);
    const one = changed("udp_local.ts", ["({ port }) => server(port)", "({ prot }) => server(prot)"]);
    const two = changed("udp_remote.ts", ["port, drop }) =>", "port, dorp }) =>"]);
    for (const [name, copy] of Object.entries({ right, one, two, three })) copyFileSync(copy, join(own, `${name}.ts`));
    const { stdout } = Bun.spawnSync([tsc, "--noEmit"], { cwd: own });
    const errors = stdout.toString();
    expect(errors).toMatch(/^one\.ts.*Property 'prot' does not exist/m);
    expect(errors).toMatch(/^two\.ts.*Property 'dorp' does not exist/m);
    expect(errors).toMatch(/^three\.ts.*(\n .*)*Property 'port' is missing/m);
    expect(errors).not.toContain("right.ts");
  },
);
