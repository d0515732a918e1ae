/**
 * The README as tests read it: its sections with their blocks in order, and the numbers of lines in the tables and edits,
 * which `bun tests/readme.ts --write` brings up to date after a change of a listing.
 */
import { join } from "node:path";

export const TOP = join(import.meta.dir, "..");
const PATH = join(TOP, "README.md");

/** Something a reader does, or sees: pastes a block, reads what appears, makes an edit, presses Ctrl-C. */
export interface Step {
  kind: "sh" | "text" | "diff" | "Ctrl-C";
  /** What the line above names: `terminal 1`, or a host. Else the same as before. */
  terminal: string;
  body: string;
}

/** A section with blocks, named by its heading. */
export interface Section {
  chapter: string;
  title: string;
  steps: Step[];
}

const PLACE = /\b(terminal \d|alice|bob|carol)\b(?=[^\n]*\n+$)/gi;

/** The sections that have blocks of commands, edits or what appears. */
export function sectionsOf(readme: string): Section[] {
  const sections: Section[] = [];
  let chapter = "";
  for (const part of readme.split(/^(?=###? )/m)) {
    const title = part.match(/^#+ (.*)$/m)?.[1] ?? "";
    if (part.startsWith("## ")) chapter = title;
    const steps: Step[] = [];
    let terminal = "terminal 1";
    let end = 0;
    for (const found of part.matchAll(/^```(\w*)\n(.*?)^```$|^Ctrl-C in (terminal \d)/gms)) {
      const [whole, kind = "", body = "", pressedIn] = found;
      // The line right above a block says where it is for.
      const above = part.slice(end, found.index).match(/[^\n]*\n+$/)?.[0] ?? "";
      terminal = (pressedIn ?? above.match(PLACE)?.at(-1) ?? terminal).toLowerCase();
      end = found.index + whole.length;
      if (pressedIn !== undefined) steps.push({ kind: "Ctrl-C", terminal, body: "" });
      else if (kind === "sh" || kind === "text" || kind === "diff") steps.push({ kind, terminal, body });
    }
    if (steps.length > 0) sections.push({ chapter, title, steps });
  }
  return sections;
}

/** The README with the line numbers that its tables and edits should have. */
export async function synced(readme: string): Promise<string> {
  return await syncedEdits(await syncedTables(readme));
}

/** How many rows and edits that looks at: a README in which it finds none is not right. */
export function countsOf(readme: string) {
  return { rows: readme.match(ROW)?.length ?? 0, edits: readme.match(EDIT)?.length ?? 0 };
}

const ROW = /^\|.*\| `([^|]*)` *\| \[([\w/.]+):\d+\]\(\S+#L\d+\)(?= )/gm;

/** In a table of `server` or `client` the lines of a file ascend, as in the book, from the head of the function on. */
async function syncedTables(readme: string): Promise<string> {
  const files = new Map<string, string[]>();
  let last = new Map<string, number>();
  let ascends = true;
  const parts: string[] = [];
  for (const line of readme.split("\n")) {
    if (!line.startsWith("|")) last = new Map();
    if (line.startsWith("| Python")) ascends = /`(server|client)`/.test(line);
    const [head, code = "", file = ""] = [...line.matchAll(ROW)][0] ?? [];
    if (head === undefined) {
      parts.push(line);
      continue;
    }
    const lines = files.get(file) ?? (await Bun.file(join(TOP, file)).text()).split("\n");
    files.set(file, lines);
    // Other tables may follow the book to and fro.
    const from = ascends ? (last.get(file) ?? 0) : 0;
    const start = /^export (async )?function/.test(code) ? 0 : from;
    const at = lines.findIndex((text, i) => i >= start && text.includes(code));
    if (at < 0) throw new Error(`README: ${file} has no \`${code}\` from line ${from + 1} on`);
    last.set(file, at);
    const link = `[${file}:${at + 1}](${file}#L${at + 1})`;
    parts.push(line.replace(/\[[\w/.]+:\d+\]\(\S+#L\d+\)/, link));
  }
  return parts.join("\n");
}

const EDIT = /^```diff\n.*?^```$/gms;

/** The heads of an edit's hunks, where their lines stand in the listing as it is. */
async function syncedEdits(readme: string): Promise<string> {
  const parts: string[] = [];
  let end = 0;
  const restored = new Map<string, string>(); // what earlier edits of a section have made of a file
  for (const found of readme.matchAll(/^### |^```diff\n(.*?)^```$/gms)) {
    const [whole, diff] = found;
    if (diff === undefined) {
      restored.clear();
      continue;
    }
    parts.push(readme.slice(end, found.index), "```diff\n");
    end = found.index + whole.length;
    for (const ofFile of diff.split(/^(?=--- )/m)) {
      const [head = "", ...hunks] = ofFile.split(/^(?=@@ )/m);
      const file = head.match(/^--- (\S+)\n\+\+\+ \1\n$/)?.[1];
      if (file === undefined) throw new Error(`README: no head of an edit: ${head}`);
      const text = restored.get(file) ?? (await Bun.file(join(TOP, file)).text());
      let edited = text;
      let shift = 0;
      parts.push(head);
      for (const hunk of hunks) {
        const body = hunk.slice(hunk.indexOf("\n") + 1);
        const side = (other: string) => body.replace(new RegExp(`^\\${other}.*\n`, "gm"), "").replace(/^[ +-]/gm, "");
        const [before, after] = [side("+"), side("-")];
        const [start, second] = [text.indexOf(before), text.indexOf(before, text.indexOf(before) + 1)];
        if (start < 0 || second >= 0)
          throw new Error(`README: ${start < 0 ? "no" : "more than one"} place in ${file} for\n${hunk}`);
        const count = (lines: string) => lines.split("\n").length - 1;
        const line = count(text.slice(0, start)) + 1;
        parts.push(`@@ -${line},${count(before)} +${line + shift},${count(after)} @@\n`, body);
        shift += count(after) - count(before);
        edited = edited.replace(before, () => after);
      }
      restored.set(file, edited);
    }
    parts.push("```");
  }
  return parts.join("") + readme.slice(end);
}

if (import.meta.main) {
  const readme = await Bun.file(PATH).text();
  const right = await synced(readme);
  if (process.argv.includes("--write")) await Bun.write(PATH, right);
  else if (right !== readme) process.exitCode = 1;
  console.log(right === readme ? "the README's line numbers hold" : "some line numbers changed");
}
