/** Plays the sections of the workbook (experiments/README.md) as a reader does, on terminals. */
import { join } from "node:path";
import { PATIENCE, TOP } from "./processes.ts";
import { Terminal } from "./terminal.ts";

export const WORKBOOK = await Bun.file(join(TOP, "experiments/README.md")).text();

/** Something a reader does or sees: types a block, makes an edit, reads what appears, presses a key, opens a shell on a host. */
export interface Step {
  kind: "sh" | "diff" | "text" | "key" | "host";
  /** Where: `terminal 1`. */
  terminal: string;
  body: string;
}

const STEP = /^```(\w+)\n(.*?)^```$|(Ctrl-[CZ]) in (terminal \d)|In (terminal \d) paste what stands behind (\w+)/gims;

/** The sections that have something to do, by their headings. */
export function sectionsOf(workbook: string): Map<string, Step[]> {
  const sections = new Map<string, Step[]>();
  for (const part of workbook.split(/^(?=###? )/m)) {
    const steps: Step[] = [];
    let terminal = "terminal 1";
    for (const found of part.matchAll(STEP)) {
      const [, kind = "", body = "", key, pressed, entered, host = ""] = found;
      // The line right above a block says where it is for.
      const above = part
        .slice(0, found.index)
        .trimEnd()
        .split("\n")
        .at(-1)
        ?.match(/terminal \d/gi)
        ?.at(-1);
      terminal = (pressed ?? entered ?? above ?? terminal).toLowerCase();
      if (key !== undefined) steps.push({ kind: "key", terminal, body: key === "Ctrl-C" ? "\x03" : "\x1a" });
      else if (entered !== undefined) steps.push({ kind: "host", terminal, body: host });
      else if (kind === "sh" || kind === "diff" || kind === "text") steps.push({ kind, terminal, body });
    }
    if (steps.some(({ kind }) => kind === "sh")) sections.set(part.match(/^#+ (.*)$/m)?.[1] ?? "", steps);
  }
  return sections;
}

const PROMPT = /^(\^C)?\w*\$ /gm;
/** What a terminal shows beside what commands print: prompts, keys, job control, `stty -g`. */
const OTHERS = /^((\^C)?\w*\$ .*|\^[CZ]|\[\d+\][+-] .*|exit|[\w:]{60,}|)$/;

/** An interactive shell. */
class Shell extends Terminal {
  /** What the workbook says that it shows. */
  readonly expected: string[] = [];
  readonly #typed: string[] = [];

  constructor(folder: string, prefix: string[]) {
    const env = { PS1: "$ ", TERM: "dumb", HISTFILE: "", PATH: `${folder}-bin:${process.env.PATH}` };
    super([...prefix, "bash", "--norc", "--noediting", "-i"], folder, env);
  }

  /** Whether the shell waits for a command: each takes a prompt, and gives one when it has ended or is stopped. */
  get idle(): boolean {
    return this.screen.endsWith("$ ") && this.screen.match(PROMPT)?.length === this.#typed.length + 1;
  }

  /** What the commands have shown. `fg` shows a command again. */
  get lines(): string[] {
    return this.screen.split("\n").filter((line) => !OTHERS.test(line) && !this.#typed.includes(line));
  }

  async type(command: string): Promise<void> {
    if (!(await this.until(() => this.idle))) throw new Error(`no prompt for ${command} in:\n${this.screen}`);
    this.#typed.push(command);
    this.press(`${command}\n`);
  }

  /** The terminal's settings, which no program may leave changed. */
  async settings(): Promise<string> {
    await this.type("stty -g");
    await this.until(() => this.idle);
    return this.screen.split("\n").findLast((line) => /^[\w:]{60,}$/.test(line)) ?? "";
  }

  /** What the shell has started and not yet ended. */
  get children(): string {
    return Bun.spawnSync(["ps", "-o", "args=", "--ppid", String(this.process.pid)]).stdout.toString();
  }
}

const VARYING =
  /(?<=\('[\d.]+', )(?:3[2-9]|[456]\d)\d{3}(?=\))|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}|\[[0-9a-f]{4}(?:[0-9a-f]{12})?\]|(?<= -t )\d+|(?<=after )\d\.\d\d/g;

/** Lines in which a port that the system chose, a time or an ID is its number: the same wherever it stands in a section. */
function plain(lines: string[]): string[] {
  const seen: string[] = [];
  return lines.map((line) =>
    line.replace(VARYING, (word) => {
      if (!seen.includes(word)) seen.push(word);
      return `#${seen.indexOf(word)}`;
    }),
  );
}

/** Plays a section in a folder that is a clone of the project's; returns what it should show, what it shows, and leaves. */
export async function play(steps: Step[], folder: string, prefix: string[], patience = PATIENCE) {
  await using stack = new AsyncDisposableStack();
  const terminals = new Map<string, Shell>();
  const settings = new Map<Shell, string>();
  for (const { kind, terminal: name, body } of steps) {
    let terminal = terminals.get(name);
    if (terminal === undefined) {
      terminal = stack.use(new Shell(folder, prefix));
      terminals.set(name, terminal);
      settings.set(terminal, await terminal.settings());
    }
    if (kind === "sh") for (const line of body.trimEnd().split("\n")) await terminal.type(line);
    else if (kind === "key") terminal.press(body);
    else if (kind === "host") {
      const [, command = ""] =
        terminals.get("terminal 1")?.screen.match(new RegExp(`^${body}  .*?  (nsenter .*)$`, "m")) ?? [];
      await terminal.type(command);
    } else if (kind === "diff") {
      const patch = Bun.spawnSync(["patch", "--batch"], { cwd: folder, stdin: Buffer.from(body) });
      if (patch.exitCode !== 0) throw new Error(`${patch.stdout}${body}`);
    } else {
      const { expected } = terminal;
      expected.push(...body.trimEnd().split("\n"));
      const shown = terminal;
      await terminal.until(() => shown.lines.length >= expected.length, patience);
    }
  }
  let left = "";
  for (const terminal of terminals.values()) {
    if ((await terminal.settings()) !== settings.get(terminal)) left += "the terminal's settings are changed\n";
    left += terminal.children;
  }
  left += Bun.spawnSync(["git", "status", "--porcelain"], { cwd: folder }).stdout;
  const all = [...terminals.values()];
  return {
    left,
    expected: plain(all.flatMap(({ expected }) => expected)),
    actual: plain(all.flatMap(({ lines }) => lines)),
  };
}
