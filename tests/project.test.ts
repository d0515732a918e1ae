/** What the project promises about itself: its size and order, its tools, and where a script runs. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import bunfig from "../bunfig.toml";
import manifest from "../package.json";
import { closedPort } from "./support/peers.ts";
import { LONG, run, serve, shell, TOP } from "./support/processes.ts";

setDefaultTimeout(LONG);

const folder = mkdtempSync(join(tmpdir(), "project-"));
afterAll(() => rmSync(folder, { recursive: true }));
const minimum = manifest.engines.bun.replace(">=", "");
const LISTINGS = ["udp_local.ts", "udp_remote.ts", "big_sender.ts", "udp_broadcast.ts"];

test("nothing is needed but Bun; an older one is told so, and the README names the same minimum", async () => {
  expect(await Bun.file(join(TOP, "README.md")).text()).toContain(`Bun ${minimum} or later`);
  expect(Object.keys(manifest)).not.toContain("dependencies");
  expect(bunfig.test.preload).toEqual(["./tests/support/preload.ts"]); // which `bun test` begins with
  const older = join(folder, "older.ts");
  await Bun.write(older, "Bun.semver.order = () => -1;");
  for (const script of ["udp_local.ts client", "big_sender.ts 127.0.0.1", "tests/support/preload.ts"]) {
    const err = `Bun ${minimum} or later is needed, this is ${Bun.version}\n`;
    expect(await run(script, { options: ["--preload", older] })).toEqual({ status: 1, out: "", err });
  }
});

test("a listing is near one screen, in the book's order, and imports run down only", async () => {
  const read = (file: string) => Bun.file(join(TOP, file)).text();
  const importsOf = async (file: string) =>
    Array.from((await read(file)).matchAll(/ from "\.\/(.*)";$/gm), ([, to]) => to);
  expect(await importsOf("terminal.ts")).toEqual([]);
  expect(await importsOf("udp_helpers.ts")).toEqual([]);
  expect(await importsOf("udp_socket.ts")).toEqual(["terminal.ts"]);
  for (const [file, most] of Object.entries({ "udp_helpers.ts": 80, "udp_socket.ts": 235, "terminal.ts": 200 })) {
    expect((await read(file)).split("\n").length - 1).toBeLessThanOrEqual(most);
  }
  for (const file of LISTINGS) {
    const lines = (await read(file)).split("\n");
    expect(lines.length - 1).toBeLessThanOrEqual(80);
    const parts = lines.filter((line) =>
      /^(export async function (server|client)\b|const usage|if \(import)/.test(line),
    );
    expect(parts.map((line) => line.match(/server|client|usage|import/)?.[0])).toEqual(
      file === "big_sender.ts" ? ["usage", "import"] : ["server", "client", "usage", "import"],
    );
  }
});

test("a reader's own file beside the listings, long and wrong, disturbs no test", async () => {
  const clone = join(folder, "clone");
  for (const file of ["README.md", "bunfig.toml", "package.json", "tests", ...new Bun.Glob("*.ts").scanSync(TOP)]) {
    cpSync(join(TOP, file), join(clone, file), { recursive: true });
  }
  await Bun.write(join(clone, "mine.ts"), `const wrong: number = "text";\n`.repeat(120));
  const end = await run(["test", "tests/project.test.ts", "-t", "one screen"], { cwd: clone });
  expect(end).toMatchObject({ status: 0, err: expect.stringContaining(" 1 pass\n") });
});

test("a compiled binary prints the same lines, away from the project, and reads nothing there", async () => {
  const [build = ""] = (await Bun.file(join(TOP, "README.md")).text()).match(/(?<=^bun )build --compile .*$/m) ?? [];
  expect((await run(build.replace("--outfile ", `--outfile ${folder}/`))).status).toBe(0);
  await Bun.write(join(folder, "bunfig.toml"), 'preload = ["./loud.ts"]\n');
  await Bun.write(join(folder, "loud.ts"), 'console.log("loud")');
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  for (const words of ["peer", `client -p ${await closedPort()}`, "client a:1", `client -p ${server.port}`]) {
    await using there = shell(`exec ./udp_remote ${words}`, { cwd: folder });
    const plain = ({ out, ...end }: Awaited<ReturnType<typeof run>>) => ({ ...end, out: out.replace(/\d+\)/g, "…)") });
    expect(plain(await there.end())).toEqual(plain(await run(`udp_remote.ts ${words}`)));
  }
});
