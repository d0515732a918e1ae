/** Plays the sections of the workbook (experiments/README.md) as a reader does, on terminals. */
import { join } from "node:path";
import { PATIENCE, TOP } from "./processes.ts";
import { Terminal } from "./terminal.ts";

export const WORKBOOK = await Bun.file(join(TOP, "experiments/README.md")).text();

/** Something a reader does or sees: types a block, makes an edit, reads what appears, or that nothing does, presses keys, opens a shell on a host. */
export interface Step {
  kind: "sh" | "diff" | "text" | "nothing" | "key" | "host";
  /** Where: `terminal 1`. */
  terminal: string;
  body: string;
}

const STEPS = [
  /^```(\w+)\n(.*?)^```$/,
  /(?:Type `([^`]+)` and )?(Ctrl-[CZ]|Enter) in (terminal \d)/,
  /Nothing appears in (terminal \d)/,
  /In (terminal \d) paste what stands behind (\w+)/,
];
const STEP = new RegExp(STEPS.map(({ source }) => source).join("|"), "gims");
const KEYS: Record<string, string> = { "Ctrl-C": "\x03", "Ctrl-Z": "\x1a", Enter: "\n" };

/** A section of the workbook. */
interface Section {
  steps: Step[];
  /** Whether it says `<!-- chance -->`: what is printed there happens now and then. */
  chance: boolean;
  /** Whether it says `<!-- alone -->`: it needs the machine to itself. */
  alone: boolean;
}

/** The sections that have something to do, by their headings. */
export function sectionsOf(workbook: string): Map<string, Section> {
  const sections = new Map<string, Section>();
  let hosts: Step[] = []; // what each section of "Several hosts" begins with
  for (const part of workbook.split(/^(?=###? )/m)) {
    const steps: Step[] = [];
    let terminal = "terminal 1";
    for (const found of part.matchAll(STEP)) {
      const [, kind = "", body = "", typed = "", key, pressed, watched, entered, host = ""] = found;
      // The line right above a block says where it is for.
      const above = part
        .slice(0, found.index)
        .trimEnd()
        .split("\n")
        .at(-1)
        ?.match(/terminal \d/gi)
        ?.at(-1);
      terminal = (pressed ?? entered ?? watched ?? above ?? terminal).toLowerCase();
      if (key !== undefined) steps.push({ kind: "key", terminal, body: typed + KEYS[key] });
      else if (watched !== undefined) steps.push({ kind: "nothing", terminal, body });
      else if (entered !== undefined) steps.push({ kind: "host", terminal, body: host });
      else if (kind === "sh" || kind === "diff" || kind === "text") steps.push({ kind, terminal, body });
    }
    if (!steps.some(({ kind }) => kind === "sh")) continue;
    if (part.startsWith("## ")) {
      hosts = steps.filter(({ kind }) => kind === "sh" || kind === "text");
      continue;
    }
    if (hosts.length > 0) {
      const left = steps.filter(({ kind }) => kind === "host").map(({ terminal }) => ({ terminal, body: "\x04" }));
      for (const key of [...left, { terminal: "terminal 1", body: "\x03" }]) steps.push({ kind: "key", ...key });
      steps.unshift(...hosts);
    }
    const [chance, alone] = ["<!-- chance -->", "<!-- alone -->"].map((mark) => part.includes(mark));
    sections.set(part.match(/^#+ (.*)$/m)?.[1] ?? "", { steps, chance: chance === true, alone: alone === true });
  }
  return sections;
}

const PROMPT = /^(\^C)?\w*\$ /gm;
/** What a terminal shows beside what commands print, prompts, keys, job control, `stty -g`: `[1]+  Stopped   bun udp_local.ts server`. */
const OTHERS = /^((\^C)?\w*\$ .*|\^[CZ]|\[\d+\][+-] .*|exit|[\w:]{60,}|)$/;

/** An interactive shell. */
class Shell extends Terminal {
  /** What the workbook says that it shows. */
  readonly expected: string[] = [];
  readonly #typed: string[] = [];
  /** What was typed into a program, which the terminal shows as well. */
  readonly #entered: string[] = [];

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
    const typed = [...this.#typed, ...this.#entered];
    return this.screen
      .split("\n")
      .filter((line) => !OTHERS.test(line.trimStart()) && !typed.includes(line.trimStart()));
  }

  async type(command: string, end = "\n"): Promise<void> {
    if (!(await this.until(() => this.idle))) throw new Error(`no prompt for ${command} in:\n${this.screen}`);
    this.#typed.push(command);
    this.press(`${command}${end}`);
  }

  /** Presses a key, or types a line for the program that runs. */
  enter(keys: string): void {
    this.#entered.push(keys.trimEnd());
    this.press(keys);
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

/** What is another one each time: `('127.0.0.1', 46056)`, `2014-06-05 10:34:53.448338`, `[b7b8]`, ` -t 4711`, `after 0.07`. */
const VARYING =
  /(?<=\('[\d.]+', )(?:3[2-9]|[456]\d)\d{3}(?=\))|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}|\[[0-9a-f]{4}(?:[0-9a-f]{12})?\]|(?<= -t )\d+|(?<=after )\d\.\d\d/g;

/** The ports that the system chose, the times and IDs in some lines, each once. */
const varyingIn = (lines: string[]) => [...new Set(lines.flatMap((line) => line.match(VARYING) ?? []))];

/** Lines in which each of these is its number: the same wherever it stands in a section. */
function plain(lines: string[]): string[] {
  const seen = varyingIn(lines);
  return lines.map((line) => line.replace(VARYING, (word) => `#${seen.indexOf(word)}`));
}

/** What a section should show, what it shows, and what it leaves. */
export interface Played {
  expected: string[];
  actual: string[];
  /** What it shows and the page does not, anywhere in the section. */
  others: string[];
  left: string;
}

/** Plays a section in a folder that is a clone of the project's. It stops at the first block that does not appear. */
export async function play(steps: Step[], folder: string, prefix: string[], patience = PATIENCE): Promise<Played> {
  await using stack = new AsyncDisposableStack();
  const terminals = new Map<string, Shell>();
  const settings = new Map<Shell, string>();
  const known = steps.flatMap(({ kind, body }) => (kind === "text" ? body.replace(VARYING, "#").split("\n") : []));
  const expected = () => [...terminals.values()].flatMap(({ expected }) => expected);
  const actual = () => [...terminals.values()].flatMap(({ lines }) => lines);
  /** The port of a client, where the page shows one. */
  const real = (port: string) => varyingIn(actual())[varyingIn(expected()).indexOf(port)] ?? port;
  const outcome = (left: string) => {
    const others = actual().filter((line) => !known.includes(line.replace(VARYING, "#")));
    return { expected: plain(expected()), actual: plain(actual()), others, left };
  };
  for (const { kind, terminal: name, body } of steps) {
    let terminal = terminals.get(name);
    if (terminal === undefined) {
      terminal = stack.use(new Shell(folder, prefix));
      terminals.set(name, terminal);
      settings.set(terminal, await terminal.settings());
    }
    if (kind === "sh") {
      for (const line of body.trimEnd().split("\n")) {
        await terminal.type(line.replace(/(?<=-p )\d{5}/, real));
      }
    } else if (body === "\x04") await terminal.type("", body);
    else if (kind === "key") terminal.enter(body);
    else if (kind === "host") {
      const [, command = ""] =
        terminals.get("terminal 1")?.screen.match(new RegExp(`^${body}  .*?  (nsenter .*)$`, "m")) ?? [];
      await terminal.type(command);
    } else if (kind === "diff") {
      await using free = new Shell(folder, prefix);
      await free.type("git apply -v");
      await free.until(() => free.screen.endsWith("git apply -v\n"));
      free.press(`${body}\n\x04`); // whose last line ends, in a selection, or does not
      await free.until(() => free.idle);
      if (!/^Applied patch .* cleanly\.$/m.test(free.screen)) throw new Error(free.screen);
    } else if (kind === "nothing") {
      const shown = terminal;
      if (await shown.until(() => shown.lines.length > shown.expected.length, 300)) return outcome("");
    } else {
      const shown = terminal;
      shown.expected.push(...body.trimEnd().split("\n"));
      const complete = () => shown.lines.length >= shown.expected.length;
      await terminal.until(() => complete() || shown.idle, patience);
      if (!complete()) return outcome("");
    }
  }
  let left = "";
  for (const terminal of terminals.values()) {
    if ((await terminal.settings()) !== settings.get(terminal)) left += "the terminal's settings are changed\n";
    left += terminal.children;
  }
  left += Bun.spawnSync(["git", "status", "--porcelain"], { cwd: folder }).stdout;
  return outcome(left);
}
