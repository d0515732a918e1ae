/** What the project promises about itself: its size and order, its tools, and where a script runs. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import bunfig from "../bunfig.toml";
import manifest from "../package.json";
import { copyOfSuite, emptyFolder } from "./support/folders.ts";
import { closedPort } from "./support/peers.ts";
import { LONG, run, serve, shell, TOP } from "./support/processes.ts";

setDefaultTimeout(LONG);

const folder = emptyFolder();
const minimum = manifest.engines.bun.replace(">=", "");
const read = (file: string) => Bun.file(join(TOP, file)).text();
const README = await read("README.md");
const ROW = /^\| `(\w+\.ts)` +\| (2-\d.*)$/gm;
/** The listings, which the README names in a table, each with its row there. */
const LISTINGS: [file: string, row: string][] = Array.from(README.matchAll(ROW), ([, file = "", row = ""]) => [
  file,
  row,
]);

test("nothing is needed but Bun; an older one is told so, and the README names the same minimum", async () => {
  expect(README).toContain(`Bun ${minimum} or later`);
  expect(Object.keys(manifest)).not.toContain("dependencies");
  expect(bunfig.test.preload).toEqual(["./tests/support/preload.ts"]); // which `bun test` begins with
  const older = join(folder, "older.ts");
  await Bun.write(older, "Bun.semver.order = () => -1;");
  for (const script of ["udp_local.ts client", "big_sender.ts 127.0.0.1", "tests/support/preload.ts"]) {
    const err = `Bun ${minimum} or later is needed, this is ${Bun.version}\n`;
    expect(await run(script, { options: ["--preload", older] })).toEqual({ status: 1, out: "", err });
  }
});

test.each(LISTINGS)("%s is near one screen, in the book's order, and says how it is used", async (file, row) => {
  const text = await read(file);
  expect(text).toStartWith("#!/usr/bin/env bun\n");
  expect(text.split("\n").length - 1).toBeLessThanOrEqual(80);
  const roles = ["server", "client"].filter((role) => row.includes(`\`${role}`));
  const parts = text.matchAll(/^(?:export async function (server|client)\b|const (usage)|(if) \(import)/gm);
  expect(Array.from(parts, (part) => part.slice(1).join(""))).toEqual([...roles, "usage", "if"]);
  const end = await run(`${file} --help`);
  expect(end).toEqual({ status: 0, out: expect.stringContaining(`usage: ${file} `), err: "" });
  const words = row.match(/--[\w-]+|[A-Z]{4,}/g) ?? [];
  for (const word of [...roles, ...words, "-p, --port", "1060", "-h, --help"]) expect(end.out).toContain(word);
  expect(await run(`${file} nonsense -h`)).toEqual(end);
});

const ROOMS = { "udp_helpers.ts": 80, "udp_socket.ts": 265, "terminal.ts": 206 };

test("each room can be read in one sitting, and imports run down only", async () => {
  const imports: Record<string, (string | undefined)[]> = {};
  for (const [file, most] of Object.entries(ROOMS)) {
    const text = await read(file);
    expect(text.split("\n").length - 1).toBeLessThanOrEqual(most);
    imports[file] = Array.from(text.matchAll(/ from "\.\/(.*)";$/gm), ([, to]) => to);
  }
  expect(imports).toEqual({
    "udp_helpers.ts": [],
    "udp_socket.ts": ["terminal.ts", "udp_helpers.ts"],
    "terminal.ts": [],
  });
});

test("what is a script is executable, and nothing else", async () => {
  expect(LISTINGS.length).toBeGreaterThanOrEqual(4);
  const experiments = Array.from(new Bun.Glob("experiments/*.ts").scanSync(TOP));
  for (const file of [...LISTINGS.map(([file]) => file), ...Object.keys(ROOMS), ...experiments]) {
    const executable = (statSync(join(TOP, file)).mode & 0o111) > 0;
    expect([file, executable]).toEqual([file, (await read(file)).startsWith("#!/usr/bin/env bun\n")]);
  }
});

test("a reader's own file beside the listings, long and wrong, disturbs no test", async () => {
  const clone = copyOfSuite("README.md", "bunfig.toml", "package.json", "experiments", "tests");
  await Bun.write(join(clone, "mine.ts"), `const wrong: number = "text";\n`.repeat(120));
  const end = await run(["test", "tests/project.test.ts", "-t", "room"], { cwd: clone });
  expect(end).toMatchObject({ status: 0, err: expect.stringContaining(" 1 pass\n") });
});

test("a compiled binary prints the same lines, away from the project, and reads nothing there", async () => {
  const [build = ""] = (await read("CONTRIBUTING.md")).match(/(?<=^bun )build --compile .*$/m) ?? [];
  expect(await run(build.replace("--outfile ", `--outfile ${folder}/`))).toMatchObject({ status: 0 });
  await Bun.write(join(folder, "bunfig.toml"), 'preload = ["./loud.ts"]\n');
  await Bun.write(join(folder, "loud.ts"), 'console.log("loud")');
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  for (const words of ["peer", `client -p ${await closedPort()}`, "client a:1", `client -p ${server.port}`]) {
    await using there = shell(`exec dist/udp_remote ${words}`, { cwd: folder });
    const plain = ({ out, ...end }: Awaited<ReturnType<typeof run>>) => ({ ...end, out: out.replace(/\d+\)/g, "…)") });
    const [end, expected] = await Promise.all([there.end(), run(`udp_remote.ts ${words}`)]);
    expect(plain(end)).toEqual(plain(expected));
  }
});
