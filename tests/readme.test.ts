/** The README: its blocks are run as they stand, and what it names is there. */
import { expect, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namespaceTest } from "./network.ts";
import { Peer } from "./peers.ts";
import { Running, start, useProcesses } from "./scripts.ts";

const testProcess = useProcesses();

const TOP = join(import.meta.dir, "..");
const README = await Bun.file(join(TOP, "README.md")).text();
const blocks = (kind: string) =>
  Array.from(README.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "gms")), ([, body = ""]) => body);
const [SERVER, CLIENT, TEST, WATCH, COMPILE, ...more] = blocks("sh");
const [PROGRAM = "", ...others] = blocks("ts");

test("every block is run here, or is this", () => {
  expect(TEST).toBe("bun test\n");
  expect([more, others]).toEqual([[], []]);
});

namespaceTest("the server and the client of the quick start talk to each other", async (net) => {
  const host = await net.host("host"); // where port 1060 is free
  const type = (block = "") => new Running([...host.prefix, "sh", "-c", block]);
  for (const block of [SERVER, WATCH]) {
    const server = type(block);
    await server.line("Listening at ('0.0.0.0', 1060)");
    for (;;) {
      const { status, out } = await type(CLIENT).end();
      if (status !== 0) continue; // three in a hundred
      const [, port] = out.match(/^Client socket name is \('127\.0\.0\.1', (\d+)\)\nWaiting up to 0\.1 seconds/) ?? [];
      expect(out).toEndWith(" seconds for a reply\nThe server says 'Your data was 23 bytes long'\n");
      await server.line(`The client at ('127.0.0.1', ${port}) says 'This is another message'`);
      break;
    }
    process.kill(-server.process.pid, "SIGINT"); // Ctrl-C
    await server.end();
  }
});

testProcess("the reader's own program echoes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "own-"));
  for (const file of new Bun.Glob("*.ts").scanSync(TOP)) cpSync(join(TOP, file), join(folder, file));
  writeFileSync(join(folder, "mine.ts"), PROGRAM);
  const mine = start(join(folder, "mine.ts"));
  using peer = await Peer.create();
  await mine.until("echo", () => {
    peer.send("hello", 1070);
    return peer.received.length > 0;
  });
  expect(await peer.receive()).toMatchObject({ text: "hello", port: 1070 });
  await mine.line(`('127.0.0.1', ${peer.port}) says 'hello'`);
  rmSync(folder, { recursive: true });
});

testProcess("a binary reads nothing from the folder it is started in", async () => {
  const folder = mkdtempSync(join(tmpdir(), "binary-"));
  const build = `${COMPILE?.trim().replace("--outfile ", `--outfile ${folder}/`)}\n`;
  expect((await new Running(["sh", "-c", build]).end()).status).toBe(0);
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./loud.ts"]\n');
  writeFileSync(join(folder, "loud.ts"), 'console.log("loud")');
  const { status, out } = await new Running(["sh", "-c", `cd ${folder} && ./udp_remote --help`]).end();
  expect({ status, out }).toEqual({ status: 0, out: expect.stringMatching(/^usage: udp_remote\.ts server/) });
  rmSync(folder, { recursive: true });
});

test("what the README names is there", () => {
  const headings = Array.from(README.matchAll(/^#+ (.*)$/gm), ([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
  const links = [...README.matchAll(/\]\(([^)#]*)#?([^)]*)\)/g)];
  expect(links.length).toBeGreaterThan(10);
  for (const [link, file = "", anchor = ""] of links) {
    if (file.startsWith("https://")) continue;
    if (file === "") expect(headings).toContain(anchor);
    else expect(existsSync(join(TOP, file)) ? link : "").toBe(link);
  }
  for (const [, name = ""] of README.matchAll(/`([\w/]+\.(?:ts|py))`/g)) {
    if (name !== "mine.ts") expect(existsSync(join(TOP, name)) ? name : "").toBe(name);
  }
});
