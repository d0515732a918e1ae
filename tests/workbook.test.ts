/** The workbook, played on terminals: what appears is what stands there, and nothing is left behind. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { forbidden, Network } from "../experiments/network.ts";
import { copyOfSuite, emptyFolder } from "./support/folders.ts";
import { missing, skips } from "./support/machine.ts";
import { LONG, PATIENCE } from "./support/processes.ts";
import { type Played, play, sectionsOf, WORKBOOK } from "./support/workbook.ts";

setDefaultTimeout(LONG);

const tools = ["bash", "stty", "ps", "git"].map(missing).find((reason) => reason !== "") ?? "";
const original = copyOfSuite("experiments");
const git = (words: string) => Bun.spawnSync(["git", ...words.split(" ")], { cwd: original });
if (tools === "" && forbidden === "")
  for (const words of ["init -q", "add .", "-c user.name=a -c user.email=b commit -qm c"]) git(words);

/** How many lines are not what they should be. */
const wrong = ({ expected, actual }: Played) =>
  Math.abs(actual.length - expected.length) + expected.filter((line, i) => line !== actual[i]).length;

const WAIT = /^Waiting up to/;
/** What lines say, waits aside, and how often. */
const gist = (lines: string[]) =>
  new Set(lines.map((line) => line.replace(/#\d+/g, "#")).filter((line) => !WAIT.test(line)));

/** What chance, too, may show and the page does not. */
const CHANCE = /^Waiting up to|^Pretending to drop|^I think the server|^Connection refused/;

/** Whether a busy machine can be the reason, a wait more or less, or chance, which may also leave lines out. */
const unlucky = ({ expected, actual, others }: Played, chance: boolean) =>
  others.every((line) => (chance ? CHANCE : WAIT).test(line)) && (chance || gist(expected).isSubsetOf(gist(actual)));

for (const [title, { steps, chance, alone }] of sectionsOf(WORKBOOK)) {
  const needs = steps.some(({ body }) => body.startsWith("python3 ")) ? missing("python3") : "";
  const one = alone ? test.serial : test;
  one.skipIf(skips(tools || forbidden || needs))(title, async () => {
    await using net = await Network.create();
    const { prefix } = await net.host("host"); // where port 1060 is free
    let closest: Played | undefined;
    // Chance gets 40 tries, and ten where tests have waited in vain.
    for (let tries = chance ? PATIENCE / 200 : 3; tries > 0; tries--) {
      const folder = join(emptyFolder(), "clone");
      cpSync(original, folder, { recursive: true });
      mkdirSync(`${folder}-bin`);
      symlinkSync(process.execPath, join(`${folder}-bin`, "bun"));
      const played = await play(steps, folder, prefix, chance ? 1000 : undefined);
      if (closest === undefined || wrong(played) < wrong(closest)) closest = played;
      if (wrong(closest) === 0 || !unlucky(played, chance)) break;
    }
    expect(closest?.actual).toEqual(closest?.expected);
    expect(closest?.left).toBe("");
  });
}
