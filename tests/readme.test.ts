/** The README: its blocks are run as they stand, and what it names is there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyOfSuite } from "./support/folders.ts";
import { networkTest } from "./support/machine.ts";
import { Actor, LOOPBACK } from "./support/peers.ts";
import { LONG, shell, start, TOP } from "./support/processes.ts";

setDefaultTimeout(LONG);

const README = await Bun.file(join(TOP, "README.md")).text();
const blocks = (kind: string) =>
  Array.from(README.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "gms")), ([, body = ""]) => body);
const [SERVER, CLIENT, TEST, WATCH, COMPILE, ...more] = blocks("sh");
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

networkTest("the reader's own program echoes", async (net) => {
  const folder = copyOfSuite();
  writeFileSync(join(folder, "mine.ts"), PROGRAM);
  const host = await net.host("host"); // where port 1070 is free
  await using mine = start(join(folder, "mine.ts"), host);
  await using actor = await Actor.create(host);
  const hello = { texts: ["hello"], to: { address: LOOPBACK, port: 1070 } };
  await mine.until("line", () => mine.out.includes("says 'hello'") || actor.order(hello)); // It does not say that it listens.
  expect(await actor.receive()).toMatchObject({ text: "hello", port: 1070 });
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
