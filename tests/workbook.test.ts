/** The workbook, played on terminals: what appears is what stands there, and nothing is left behind. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forbidden, Network } from "../experiments/network.ts";
import { missing, skips } from "./support/machine.ts";
import { LONG, TOP } from "./support/processes.ts";
import { play, sectionsOf, WORKBOOK } from "./support/workbook.ts";

setDefaultTimeout(LONG);

const sections = sectionsOf(WORKBOOK);
const tools = ["bash", "stty", "ps", "git", "patch"].map(missing).find((reason) => reason !== "") ?? "";
const temporary = mkdtempSync(join(tmpdir(), "workbook-"));
const original = join(temporary, "original");
afterAll(() => rmSync(temporary, { recursive: true }));

if (tools === "" && forbidden === "") {
  for (const file of ["experiments", ...new Bun.Glob("*.ts").scanSync(TOP)]) {
    cpSync(join(TOP, file), join(original, file), { recursive: true });
  }
  const git = (words: string) => Bun.spawnSync(["git", ...words.split(" ")], { cwd: original });
  for (const words of ["init -q", "add .", "-c user.name=a -c user.email=b commit -qm c"]) git(words);
}

/** Sections in which chance has a say: what is printed happens now and then. */
const CHANCE = /udp_remote\.ts server(?!.*(--drop|127\.0\.0\.))|flood\.ts/;

for (const [title, steps] of sections) {
  const needs = steps.some(({ body }) => body.startsWith("python3 ")) ? missing("python3") : "";
  const one = steps.some(({ body }) => body.includes("flood.ts")) ? test.serial : test; // It needs the machine to itself.
  one.skipIf(skips(tools || forbidden || needs))(title, async () => {
    await using net = await Network.create();
    const { prefix } = await net.host("host"); // where port 1060 is free
    const chance = steps.some(({ body }) => CHANCE.test(body));
    const waits = steps.some(({ body }) => body.includes("Waiting up to")); // A busy machine may answer late.
    for (let tries = chance ? 60 : waits ? 3 : 1; tries > 0; tries--) {
      const folder = mkdtempSync(join(temporary, "section-"));
      cpSync(original, folder, { recursive: true });
      mkdirSync(`${folder}-bin`);
      symlinkSync(process.execPath, join(`${folder}-bin`, "bun"));
      const { left, expected, actual } = await play(steps, folder, prefix, chance ? 300 : undefined);
      if (tries > 1 && !Bun.deepEquals(expected, actual)) continue;
      expect(actual).toEqual(expected);
      expect(left).toBe("");
      break;
    }
  });
}
