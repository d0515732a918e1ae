/** What the project promises about itself. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import lock from "../bun.lock";
import bunfig from "../bunfig.toml";
import manifest from "../package.json";
import { Running, run, serve, useProcesses } from "./scripts.ts";

const testProcess = useProcesses();

const TOP = join(import.meta.dir, "..");

test("this is a Bun that the project supports, and the README names the same minimum", async () => {
  expect(Bun.semver.satisfies(Bun.version, manifest.engines.bun)).toBe(true);
  const minimum = manifest.engines.bun.replace(">=", "");
  expect(await Bun.file(join(TOP, "README.md")).text()).toContain(`Bun ${minimum} or later`);
});

test("an older Bun is told so", async () => {
  const preload = join(tmpdir(), `older-${crypto.randomUUID()}.ts`);
  await Bun.write(preload, "Bun.semver.order = () => -1;");
  const older = { prefix: [], options: ["--preload", preload] };
  expect(bunfig.test.preload).toEqual(["./tests/preload.ts"]); // which `bun test` begins with
  for (const script of ["udp_local.ts client", "big_sender.ts 127.0.0.1", "tests/preload.ts"]) {
    const err = `Bun 1.4.5 or later is needed, this is ${Bun.version}\n`;
    expect(await run(script, older)).toEqual({ status: 1, out: "", err });
  }
  rmSync(preload);
});

test("nothing is needed at run time but Bun", () => {
  expect(Object.keys(manifest)).not.toContain("dependencies");
});

test("the lock has the tools' binaries for every platform", () => {
  const platforms = ["darwin", "linux", "win32"].flatMap((os) => [`${os}-arm64`, `${os}-x64`]);
  const wanted = [
    ...platforms.map((platform) => `@typescript/typescript-${platform}`),
    ...[...platforms, "linux-arm64-musl", "linux-x64-musl"].map((one) => `@biomejs/cli-${one}`),
  ];
  const locked = Object.keys(lock.packages);
  expect(wanted.filter((name) => !locked.includes(name))).toEqual([]);
  expect(wanted).toHaveLength(14);
});

testProcess("a script works as one binary, away from the project and from Bun", async () => {
  const folder = mkdtempSync(join(tmpdir(), "binary-"));
  const binary = join(folder, "udp_remote");
  const build = ["build", "--compile", join(TOP, "udp_remote.ts"), "--outfile", binary];
  expect((await run(build)).status).toBe(0);
  const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  const client = await new Running([binary, "client", "-p", String(server.port)]).end();
  expect(client).toMatchObject({ status: 0, err: "" });
  expect(client.out).toEndWith("\nThe server says 'Your data was 23 bytes long'\n");
  const wrong = await new Running([binary, "peer"]).end();
  expect(wrong).toEqual({
    status: 2,
    out: "",
    err: "Give a role, server or client: see --help\n",
  });
  rmSync(folder, { recursive: true });
});

test("a listing begins with its listing and stays near one screen, and imports run down only", async () => {
  const importsOf = (text: string) => Array.from(text.matchAll(/ from "\.\/(.*)";$/gm), ([, file]) => file);
  const read = (file: string) => Bun.file(join(TOP, file)).text();
  expect(importsOf(await read("terminal.ts"))).toEqual([]);
  expect(importsOf(await read("udp_helpers.ts"))).toEqual([]);
  expect(importsOf(await read("udp_socket.ts"))).toEqual(["terminal.ts"]);
  for (const listing of ["udp_local.ts", "udp_remote.ts", "big_sender.ts", "udp_broadcast.ts"]) {
    const lines = (await read(listing)).split("\n");
    const helpers = listing === "big_sender.ts" ? [] : ["udp_helpers.ts"];
    expect(importsOf(lines.join("\n"))).toEqual(["terminal.ts", ...helpers, "udp_socket.ts"]);
    expect(lines.length).toBeLessThanOrEqual(81); // 80, and the end of the last one
    if (listing === "big_sender.ts") continue;
    const server = lines.findIndex((line) => line.startsWith("export async function server("));
    expect(server).toBeGreaterThan(0);
    expect(server).toBeLessThan(20);
    expect(lines.findIndex((line) => line.startsWith("export async function client("))).toBeGreaterThan(server);
  }
});
