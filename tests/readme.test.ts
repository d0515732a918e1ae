/** The pages beside the workbook: their blocks are run as they stand, their rows do what they say, and what they name is there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { copyOfSuite } from "./support/folders.ts";
import { missing, networkTest, skips } from "./support/machine.ts";
import { LONG, Running, run, serve, shell, start, TOP } from "./support/processes.ts";

setDefaultTimeout(LONG);

/** The pages, and how long each may be. */
const PAGES = { "README.md": 130, "experiments/from_python.md": 125, "CONTRIBUTING.md": 60 };
const page = (file: keyof typeof PAGES) => Bun.file(join(TOP, file)).text();
const all = (await Promise.all((Object.keys(PAGES) as (keyof typeof PAGES)[]).map(page))).join("");
const FROM_PYTHON = await page("experiments/from_python.md");
const blocks = (kind: string) =>
  Array.from(all.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "gms")), ([, body = ""]) => body);
const [SERVER, CLIENT, TEST, WATCH, SAY, COMPILE, ...more] = blocks("sh");
const [PROGRAM = "", ...others] = blocks("ts");

test("every block is run here, or is this", () => {
  expect(TEST).toBe("bun test\n");
  expect(COMPILE).toStartWith("bun build --compile"); // in project.test.ts
  expect([more, others]).toEqual([[], []]);
});

networkTest("the server and the client of the quick start talk to each other", async (net) => {
  const host = await net.host("host"); // where port 1060 is free
  for (const block of [SERVER, WATCH]) {
    await using server = shell(block as string, host);
    await server.line("Listening at ('0.0.0.0', 1060)");
    let asked = { status: 1, out: "", err: "" };
    for (let tries = 3; tries > 0 && asked.status !== 0; tries--) {
      await using client = shell(CLIENT as string, host);
      asked = await client.end(); // three in a hundred find the server down
    }
    expect(asked.err).toBe("");
    const [, port] =
      asked.out.match(/^Client socket name is \('127\.0\.0\.1', (\d+)\)\nWaiting up to 0\.1 seconds/) ?? [];
    expect(asked.out).toEndWith(" seconds for a reply\nThe server says 'Your data was 23 bytes long'\n");
    await server.line(`The client at ('127.0.0.1', ${port}) says 'This is another message'`);
  }
});

networkTest("the reader's own program answers a question, and says in one line what is refused", async (net) => {
  const folder = copyOfSuite("experiments");
  writeFileSync(join(folder, "mine.ts"), PROGRAM);
  const host = { ...(await net.host("host")), cwd: folder }; // where port 1070 is free
  await using mine = start("mine.ts", host);
  let said = "";
  for (let tries = 50; tries > 0 && !said.startsWith("'time': '"); tries--) {
    await using say = shell(SAY as string, host);
    said = (await say.end()).out; // Nobody answers until the program listens.
  }
  expect(said).toMatch(/^'time': 'It is \d\d:\d\d:\d\d[.\d]*'\n$/);
  await mine.line(/^\('127\.0\.0\.1', \d+\) says 'time'$/);
  const others = await run("experiments/say.ts -p 1070 hello", host);
  expect(others).toMatchObject({ status: 0, out: "'hello': no answer\n" });
  expect(await run("mine.ts", host)).toMatchObject({ status: 1, err: "Address already in use: ('127.0.0.1', 1070)\n" });
});

const PROGRAM_OF_ROWS = "experiments/from_python.ts";
/** The rows, and those of "Values", each as its cells of code. `` `x` `` stands in doubled quotes. */
const rowsOf = (text: string) =>
  Array.from(text.matchAll(/^\| (.*) \| (.*) \|$/gm), (row) =>
    row.slice(1).map((cell) => Array.from(cell.matchAll(/`` (.*?) ``|`([^`]+)`/g), ([, two, one = ""]) => two ?? one)),
  );
const [before = "", values = "", after = ""] = FROM_PYTHON.split(/^(?=## Values|## Files)/m);

test("each piece of code of the rows from Python to Bun stands in a program", async () => {
  const code = await Bun.file(join(TOP, PROGRAM_OF_ROWS)).text();
  const pieces = rowsOf(before + after).flatMap(([, here = []]) => here.filter((piece) => /[(=[{]|\w;$/.test(piece)));
  expect(pieces.filter((piece) => !code.includes(piece))).toEqual([]);
  expect(pieces.length).toBeGreaterThan(60);
});

test.skipIf(skips(missing("python3")))("each value is what Python says of the left side", async () => {
  const pairs = rowsOf(values).flatMap(([left = [], right = []]) => left.map((python, i) => [python, right[i]]));
  expect(pairs.length).toBeGreaterThan(25);
  const python = `import base64, json, re, struct, time
text, data, address, names = 'Ann: 7', b'\\x02\\x01', ('127.0.0.1', 1060), ['b', 'a']
xs, x, a, b = [10, 9, 1], 0.28, -7, 2
for value in [${pairs.map(([python]) => python)}]: print(json.dumps(list(value) if type(value) is bytes else value))`;
  const here = `import { repr } from "./terminal.ts"; import { Address } from "./udp_socket.ts";
    const text = "Ann: 7", data = Buffer.from([2, 1]), address = new Address("127.0.0.1", 1060), names = ["b", "a"];
    const xs = [10, 9, 1], x = 0.28, a = -7, b = 2;
    for (const value of [${pairs.map(([, here]) => here)}]) console.log(JSON.stringify(Buffer.isBuffer(value) ? [...value] : value));`;
  const told = async (command: string[]) => {
    await using one = new Running(command);
    const lines = (await one.done()).trim().split("\n");
    // A time, in seconds, is the same if it is of this day.
    return lines.map((line, i) => [
      pairs[i],
      Number(line) > 1e9 ? Math.round(Number(line) / 86_400) : JSON.parse(line),
    ]);
  };
  expect(await told([process.execPath, "-e", here])).toEqual(await told(["python3", "-c", python]));
});

test("and that program does what the rows say", async () => {
  await using server = await serve(`${PROGRAM_OF_ROWS} server`);
  const peer = (role: string) => start(`${PROGRAM_OF_ROWS} ${role} -p ${server.port}`);
  await using client = peer("client --times 2");
  client.type("");
  const answers = "caf\xe9 127.0.0.1 true true\n".repeat(2);
  expect(await client.done()).toBe(`${answers}name: [ '' ] true false\n`);
  await using chat = peer("chat");
  chat.type("exit"); // which fails in the server, and ends nothing there
  chat.type("hello");
  await chat.line("hello");
  chat.process.stdin.end();
  expect(await chat.done()).toBe("hello\nclosed\n");
  server.kill("SIGINT");
  const { status, out, err } = await server.end();
  expect(status).toBe(0);
  expect(out).toMatch(/says '.*' false 0\n.* says '.*' true 1\n.*'exit' false 0\n.*'hello' true 1\nclosed\n$/);
  expect(err).toContain("error: exit is not for strangers");
  const alone = (await run([PROGRAM_OF_ROWS, "alone"])).out.replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$/m, "now");
  expect(alone).toBe(String.raw`b'one' false
b'two' 127.0.0.1 true
within(0) b'two'
silence [ 0, 0 ] true
now
${[0.1, 0.2, 0.4, 0.8, 1.6].map((delay) => `refused ${delay}\n`).join("")}[ 0.5, 1, 2 ]
b'\x02\x01' [ 'send', 'Ann two words' ]
[ 0, 1, 2, 3, 4 ] 10
false true
constructor 1 1
{"constructor":1} true
[ 1081 ] 2 1 { port: 1080 } true
{ name: 'ann', ports: [ 1060 ] } 2
`);
  expect(await run(`${PROGRAM_OF_ROWS} end`)).toEqual({ status: 1, out: "[ 'end' ] exit\n", err: "" });
  expect(await run(`${PROGRAM_OF_ROWS} end fail`)).toMatchObject({ status: 1, err: "no answer\n" });
});

const PRELUDE = `import { backoff } from "./udp_helpers.ts"; import { udpSocket } from "./udp_socket.ts";
const hostname = "127.0.0.1", peer = await udpSocket({ hostname }), address = peer.address, text = "x";
const sock = await udpSocket({ connect: { hostname, port: address.port } });
const answer = async () => { const [data, client] = await peer.receive(); peer.sendTo(data, client); };
`;

test("a closed socket's port is free, and two sockets of node:dgram may share it", async () => {
  const program = `
{ using one = await udpSocket({ hostname, port: 0 }); var port = one.address.port; }
{ using one = await udpSocket({ hostname, port }); }
const { createSocket } = await import("node:dgram");
for (const _ of "ab") {
  const one = createSocket({ type: "udp4", reuseAddr: true }).unref();
  await new Promise((bound, refused) => one.on("error", refused).bind(port, hostname, bound));
}
console.log("shared");
process.exit();`;
  expect(await run(["-e", PRELUDE + program])).toEqual({ status: 0, out: "shared\n", err: "" });
});

test("Ctrl-C ends for await, and receive throws; a second one ends the program", async () => {
  const program = `
process.once("SIGINT", () => peer.close());
console.log("on");
for await (const _ of peer);
await peer.receive().catch((error) => console.log(error.code));
await Bun.sleep(60_000);`;
  await using one = start(["-e", PRELUDE + program]);
  await one.line("on");
  one.kill("SIGINT");
  await one.line("EBADF");
  one.kill("SIGINT");
  expect(await one.end()).toMatchObject({ status: 130, err: "" });
});

test("prompt stops all else, and takes what console would read; console's last line may be empty", async () => {
  const program = `
let ticks = 0;
const timer = setInterval(() => ticks++, 10);
const name = prompt("name:");
console.log(ticks, name);
clearInterval(timer);`;
  const read = "for await (const line of console) console.log([line]);";
  await using one = start(["-e", `${program} ${read}`]);
  await one.until("prompt", () => one.out.startsWith("name:"));
  await Bun.sleep(200);
  one.type("ann\ntwo\nthree");
  one.process.stdin.end();
  expect(await one.done()).toBe("name: 0 ann\n");
  await using other = start(["-e", `console.log("on"); ${read}`]);
  await other.line("on");
  other.type("two");
  await other.line('[ "two" ]');
  other.process.stdin.end();
  expect(await other.done()).toBe(`on\n[ "two" ]\n[ "" ]\n`);
});

test("what goes wrong without a word", async () => {
  const program = `
const begin = performance.now();
Bun.sleep(2000);
await Bun.sleep(0.5);
for (const delay in backoff()) console.log(delay);
for (const x in ["a", "b"]) console.log(x);
console.log(Number(""), Number.isNaN(Number("x")), ["a", "b"].indexOf(address));
console.log(performance.now() - begin < 1900, "… \${text} …", [...backoff(0.5)][0], address.host, address.host % 2);
sock.send("x");
const [, one] = await peer.receive();
sock.send("x");
const [, other] = await peer.receive();
console.log(one === other, Buffer.from(text) === Buffer.from(text));
await Promise.race([peer.receive().then(() => console.log("lost")), Bun.sleep(50)]);
sock.send("x");
try { await peer.receive(0.2); } catch {}
process.exit();`;
  const out = `0\n1\n0 true -1\ntrue … \${text} … 0.1 undefined NaN\nfalse false\nlost\n`;
  expect(await run(["-e", PRELUDE + program])).toEqual({ status: 0, out, err: "" });
});

test.each([
  ["const [data] = peer.receive();", "{} is not iterable"],
  ["using one = udpSocket({ hostname });", "@@dispose must not be undefined or null"],
  ["for await (const _ of udpSocket({ hostname }));", "iterable should have an iterator symbol"],
  ["answer(); let data;\nsock.send(text)\n[data] = await sock.receive(1)", "Attempted to assign to readonly property"],
  ["answer(); let data;\npeer.sendTo(text, address)\n[data, text]", "undefined is not an object (evaluating 'peer"],
  ["sock.send(42);", "Expected ArrayBufferView or string as first argument"],
  ['peer.send(text, 9, "localhost");', "Invalid address"],
  ["await udpSocket({ port: text });", 'Expected "port" to be an integer'],
  [
    "async function go() { using one = await udpSocket({}); const [data] = one.receive(); } go();",
    "The socket is closed",
  ],
])("what a message means: %s", async (line, message) => {
  const { status, err } = await run(["-e", PRELUDE + line]);
  expect(status).toBe(1);
  expect(err).toContain(message);
  expect(FROM_PYTHON).toContain(`\`${message.replace("peer", "sock")}`);
});

test.each([
  ["() => peer.sendTo(text.repeat(70_000), address)", false],
  ["() => { peer.sendTo(text.repeat(70_000), address); }", true],
])("an error in a callback, %s, shows the suite's line first", async (callback, shown) => {
  const folder = copyOfSuite();
  writeFileSync(join(folder, "mine.ts"), `${PRELUDE}setTimeout(${callback}, 10);`);
  const { err } = await run("mine.ts", { cwd: folder });
  expect(err).toMatch(/at report \(.*terminal\.ts:\d+:\d+\)\n +at sendTo \(.*udp_socket\.ts/);
  expect(err.includes("mine.ts:5:")).toBe(shown);
});

test.each(Object.entries(PAGES))("%s is at most %i lines long, and what it names is there", async (file, most) => {
  const text = await page(file as keyof typeof PAGES);
  const lines = text.split("\n");
  expect(lines.length - 1).toBeLessThanOrEqual(most);
  expect(lines.filter((line) => line.length > 150 && !line.startsWith("|"))).toEqual([]);
  const headings = Array.from(text.matchAll(/^#+ (.*)$/gm), ([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
  const links = [...text.matchAll(/\]\(([^)#]*)#?([^)]*)\)/g)];
  expect(links.length).toBeGreaterThan(2);
  for (const [link, to = "", anchor = ""] of links) {
    if (to.startsWith("https://")) continue;
    if (to === "") expect(headings).toContain(anchor);
    else expect(existsSync(join(TOP, dirname(file), to)) ? link : "").toBe(link);
  }
  for (const [, name = ""] of text.matchAll(/`([\w/]+\.(?:ts|py|md))`/g)) {
    const there = [TOP, join(TOP, dirname(file))].some((folder) => existsSync(join(folder, name)));
    if (name !== "mine.ts") expect(there ? name : "").toBe(name);
  }
});
