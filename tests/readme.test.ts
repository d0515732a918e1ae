/** The README: its blocks are run as they stand, and what it names is there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyOfSuite } from "./support/folders.ts";
import { networkTest } from "./support/machine.ts";
import { LONG, run, serve, shell, start, TOP } from "./support/processes.ts";

setDefaultTimeout(LONG);

const README = await Bun.file(join(TOP, "README.md")).text();
const blocks = (kind: string) =>
  Array.from(README.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, "gms")), ([, body = ""]) => body);
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

networkTest("the reader's own program echoes, and says in one line what is refused", async (net) => {
  const folder = copyOfSuite("experiments");
  writeFileSync(join(folder, "mine.ts"), PROGRAM);
  const host = { ...(await net.host("host")), cwd: folder }; // where port 1070 is free
  await using mine = start("mine.ts", host);
  let said = "";
  for (let tries = 50; tries > 0 && !said.startsWith("'hello': '"); tries--) {
    await using say = shell(SAY as string, host);
    said = (await say.end()).out; // Nobody answers until the program listens.
  }
  expect(said).toBe("'hello': 'hello'\n");
  await mine.line(/^\('127\.0\.0\.1', \d+\) says 'hello'$/);
  expect(await run("mine.ts", host)).toMatchObject({ status: 1, err: "Address already in use: ('127.0.0.1', 1070)\n" });
});

test("each row from Python to Bun does what it says", async () => {
  const file = "experiments/from_python.ts";
  const code = await Bun.file(join(TOP, file)).text();
  const tables = README.slice(README.indexOf("## Python to Bun"), README.indexOf("## Your own program"));
  for (const [, cell = ""] of tables.matchAll(/^\|.* \| (.*) \|$/gm)) {
    for (const [, two, one = two ?? ""] of cell.matchAll(/`` (.*?) ``|`([^`]+)`/g)) {
      if (/[(={]/.test(one) && !/…|is not|===/.test(one)) expect(code).toContain(one);
    }
  }
  await using server = await serve(`${file} server`);
  await using client = start(`${file} client --times 2 -p ${server.port}`);
  client.type("typed");
  const answers = "café127.0.0.1 true false\n".repeat(2);
  const bytes = String.raw`b'\x02\x01' 513 b'\xff' '\ud83d\ude00' 1 2`;
  expect(await client.done()).toBe(`${answers}silence true\n${bytes}\nname: [ 0.5, 1, 2 ] true typed\n`);
  server.kill("SIGINT");
  const { status, out } = await server.end();
  expect(status).toBe(0);
  expect(out).toMatch(/says '.*' false undefined\n.* says '.*' true 1\nclosed\n$/);
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
