/**
 * The README, carried out: its blocks are pasted into interactive shells, on terminals, as a reader pastes them, and
 * what appears is compared with what is printed there. Only ports that the system chose, times and request IDs may
 * differ, and those alike wherever they stand in a section; the lines of job control are left out. Three readers do it
 * at once, each on hosts of their own: one takes all the experiments in order, two skip every other one.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { backoff } from "../udp_helpers.ts";
import { forbidden, type Host, Network } from "./network.ts";
import { countsOf, type Section, type Step, sectionsOf, synced, TOP } from "./readme.ts";
import { PATIENCE } from "./scripts.ts";

setDefaultTimeout(6 * PATIENCE);

const README = await Bun.file(join(TOP, "README.md")).text();

/** What is not for pasting in a test, with the reason. */
const UNPLAYED: Record<string, string> = {
  "git clone ADDRESS udp-listings\ncd udp-listings\n": "only the reader knows the address",
  "npm install -g bun@1.4.5\n": "it would change this machine",
  "curl -fsSL https://bun.sh/install | bash\n": "it would change this machine",
  "bun install\n": "it needs the network",
  "bun test\n": "this is it",
  "npx -y bun@1.4.5 test\n": "this is it",
  "git restore .\n": "nothing is left to restore",
};

const sections = sectionsOf(README)
  .map((section) => ({ ...section, steps: section.steps.filter(({ body }) => !UNPLAYED[body]) }))
  .filter(({ steps }) => steps.some(({ kind }) => kind === "sh"));

/** Sections in which chance, or the speed of this machine, has a say: what is printed happens now and then. */
const CHANCE = /udp_remote\.ts server(?!.*(--drop|127\.0\.0\.[12]))|flood\.ts|Bun\.sleep/;

/** What a terminal shows beside the output: job control's own lines, and the marks by which a block's end is known. */
const JOB_CONTROL = /^\[\d+\][ +-]/;
const MARK = /^done \d+$/;

/** Waits until `ready`, or returns false after so many ms. */
async function wait(ready: () => boolean, patience: number): Promise<boolean> {
  const end = performance.now() + patience;
  while (!ready()) {
    if (performance.now() > end) return false;
    await Bun.sleep(5);
  }
  return true;
}

/** An interactive shell on a host, on a terminal, with all that appears on it. */
class Terminal {
  printed: string[] = [];
  #out = "";
  #begin = 0;
  #marks = 0;
  readonly #shell: Bun.Subprocess;

  constructor(host: Host, folder: string) {
    const decoder = new TextDecoder();
    const quiet = "stty -echo -onlcr; echo done 0; exec bash --norc -i"; // no echo of what is pasted
    this.#shell = Bun.spawn([...host.prefix, "sh", "-c", quiet], {
      cwd: folder,
      env: {
        ...process.env,
        PATH: `${folder}-bin:${process.env.PATH}`,
        TERM: "dumb",
        HISTFILE: "",
        PS1: "",
        PS2: "",
      },
      terminal: {
        data: (_, bytes) => {
          this.#out += decoder.decode(bytes, { stream: true });
        },
      },
    });
  }

  get lines(): string[] {
    const lines = this.#out.slice(this.#begin).split("\n");
    return lines.filter((line) => line !== "" && !JOB_CONTROL.test(line) && !MARK.test(line));
  }

  /** Forgets what has appeared. */
  clear(): void {
    this.#begin = this.#out.length;
    this.printed = [];
  }

  write(text: string): void {
    this.#shell.terminal?.write(text);
  }

  /** Pastes a block. A server in the foreground keeps the mark of its end until Ctrl-C. */
  paste(block: string): void {
    this.write(block);
    this.mark();
  }

  mark(): void {
    this.write(`echo done ${++this.#marks}\n`);
  }

  get idle(): boolean {
    return this.#out.includes(`done ${this.#marks}\n`);
  }

  /** What the shell has started and not yet ended. */
  get children(): string {
    const { pid } = this.#shell;
    const { stdout } = Bun.spawnSync(["ps", "-o", "stat=,args=", "--ppid", String(pid)]);
    const processes = stdout.toString().trim().split("\n");
    return processes.filter((line) => !line.startsWith("Z")).join("\n"); // Z has ended
  }

  async close(): Promise<void> {
    this.write("\x03\nkill -KILL $(jobs -p)\nexit\nexit\n");
    if (!(await wait(() => this.#shell.exitCode !== null, 2000))) this.#shell.kill("SIGKILL");
    await this.#shell.exited;
  }
}

/** The lines of servers, and those of others. */
function apart(lines: string[]): [string[], string[]] {
  const ofServer = /^(Listening|The client at|Pretending|Python)/;
  return [lines.filter((line) => ofServer.test(line)), lines.filter((line) => !ofServer.test(line))];
}

/** What the README's ports, times and IDs are in this run. */
class Meanings {
  readonly #actual = new Map<string, string>();
  static readonly varying =
    /(?<=\('[\d.]+', )(?:3[2-9]|[456]\d)\d{3}(?=\))|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}|\[[0-9a-f]{4}(?:[0-9a-f]{12})?\]/gi;

  /** Whether a line is what the README prints, with what varies standing for the same all along. */
  agree(printed: string, actual: string): boolean {
    const skeleton = (line: string) => line.replace(Meanings.varying, "…");
    if (skeleton(printed) !== skeleton(actual)) return false;
    const here = actual.match(Meanings.varying) ?? [];
    return (printed.match(Meanings.varying) ?? []).every((word, i) => {
      const known = this.#actual.get(word);
      if (known === undefined) this.#actual.set(word, here[i] ?? "");
      // Two of the README's ports may be one here: the system lends a port again once a client has left it.
      return known === undefined || known === here[i];
    });
  }
}

/** A reader, with a checkout, the hosts that the README tells of, and terminals on them. */
class Reader implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "readme-"));
  readonly #terminals = new Map<string, Terminal>();
  #network: Network | undefined;
  #hosts: Record<string, Host> = {};

  /** alice 192.168.5.10 ---- switch ---- 192.168.5.11 bob; and alice ---- router --1400-- carol 10.0.0.2 */
  static async create(): Promise<Reader> {
    const reader = new Reader();
    const net = await Network.create();
    reader.#network = net;
    const [alice, bob] = [await net.host("alice"), await net.host("bob")];
    const [router, carol] = [await net.host("router"), await net.host("carol")];
    await net.subnet([
      { host: alice, name: "eth0", address: "192.168.5.10/24" },
      { host: bob, name: "eth0", address: "192.168.5.11/24" },
      { host: router, name: "eth0", address: "192.168.5.1/24" },
    ]);
    net.link(
      { host: router, name: "eth1", address: "10.0.0.1/24" },
      { host: carol, name: "eth0", address: "10.0.0.2/24" },
      { mtu: 1400 },
    );
    router.forward();
    alice.ip("route add default via 192.168.5.1");
    carol.ip("route add default via 10.0.0.1");
    reader.#hosts = { alice, bob, carol };

    const bin = `${reader.#folder}-bin`;
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, "bun"));
    // Like npx, without the network: the shell waits for a child that runs Bun.
    const npx = '#!/bin/sh\n[ "$1 $2" = "-y bun@1.4.5" ] && shift 2 && bun "$@"; exit $?\n';
    writeFileSync(join(bin, "npx"), npx, { mode: 0o755 });
    for (const pattern of ["*.ts", "*.json", "experiments/*", ".gitignore"]) {
      for (const name of new Bun.Glob(pattern).scanSync({ cwd: TOP, dot: true }))
        cpSync(join(TOP, name), join(reader.#folder, name));
    }
    reader.#git("init", "-q");
    reader.#git("add", "-A");
    reader.#git("-c", "user.name=reader", "-c", "user.email=reader@localhost", "commit", "-qm", "all");
    return reader;
  }

  #git(...words: string[]): string {
    const env = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" }; // without this machine's hooks
    const { exitCode, stdout, stderr } = Bun.spawnSync(["git", ...words], {
      cwd: this.#folder,
      env,
    });
    if (exitCode !== 0) throw new Error(`git ${words.join(" ")}: ${stderr}`);
    return stdout.toString();
  }

  #terminal(name: string): Terminal {
    let terminal = this.#terminals.get(name);
    if (terminal === undefined) {
      const host = this.#hosts[name.startsWith("terminal") ? "alice" : name];
      if (host === undefined) throw new Error(`there is no host ${name}`);
      terminal = new Terminal(host, this.#folder);
      this.#terminals.set(name, terminal);
    }
    return terminal;
  }

  /** Plays a section; returns what is printed there and what appeared, alike where they agree. */
  async play({ steps }: Section, patience: number) {
    for (const terminal of this.#terminals.values()) terminal.clear();
    for (const [i, step] of steps.entries()) await this.#take(step, steps.slice(i + 1), patience);
    const terminals = [...this.#terminals.values()];
    for (const terminal of terminals) {
      if (!(await wait(() => terminal.idle, PATIENCE))) throw new Error("a terminal is still busy");
      await wait(() => terminal.lines.length >= terminal.printed.length, patience);
    }
    const meanings = new Meanings();
    // A server in the background and its client print into one terminal: each for itself in the order of the page.
    const printed = terminals.flatMap((terminal) => apart(terminal.printed));
    const actual = terminals
      .flatMap((terminal) => apart(terminal.lines))
      .map((lines, i) =>
        lines.map((line, j) => {
          const like = printed[i]?.[j];
          return like !== undefined && meanings.agree(like, line) ? like : line;
        }),
      );
    return { printed, actual, left: await this.#leftovers() };
  }

  async #take(step: Step, later: Step[], patience: number): Promise<void> {
    const terminal = this.#terminal(step.terminal);
    const [next] = later;
    if (step.kind === "diff") {
      const edit = ["patch", "--fuzz=0", "--batch"];
      const stdin = Buffer.from(step.body);
      const { exitCode, stdout } = Bun.spawnSync(edit, { cwd: this.#folder, stdin });
      const said = stdout.toString();
      if (exitCode !== 0 || /fuzz|offset/.test(said)) throw new Error(`${said}${step.body}`);
    } else if (step.kind === "Ctrl-C") {
      terminal.write("\x03");
      terminal.mark(); // The terminal forgets what was typed before.
    } else if (step.kind === "text") {
      terminal.printed.push(...step.body.split("\n").slice(0, -1));
      await wait(() => terminal.lines.length >= terminal.printed.length, patience);
    } else {
      if (!(await wait(() => terminal.idle, PATIENCE))) throw new Error(`busy before ${step.body}`);
      const before = this.#listeners(step);
      terminal.paste(step.body);
      // A block is over when the shell is, or all that is printed below has appeared, or its server listens.
      const shown = next?.kind === "text" && next.terminal === step.terminal ? next.body : "";
      const enough = terminal.printed.length + shown.split("\n").length - 1;
      const same = later.find(({ kind, terminal }) => terminal === step.terminal && kind !== "text");
      const starts = step.body.search(/&( \w+=\$!)?\n$/) >= 0 || same?.kind === "Ctrl-C";
      const over = () => {
        if (starts && shown === "") return this.#listeners(step).some((socket) => !before.includes(socket));
        return terminal.idle || (shown !== "" && terminal.lines.length >= enough);
      };
      if (!(await wait(over, PATIENCE))) throw new Error(`no end of ${step.body}`);
    }
  }

  /** The sockets bound to port 1060 on a step's host, by their inodes. */
  #listeners({ terminal }: Step): string[] {
    const host = this.#hosts[terminal.startsWith("terminal") ? "alice" : terminal];
    const lines = host?.sh("cat /proc/net/udp").match(/^ *\d+: [0-9A-F]{8}:0424 .*$/gm) ?? [];
    return lines.map((line) => line.trim().split(/ +/)[9] ?? "");
  }

  /** What a section has left behind: processes of the shells, sockets of the hosts, files. */
  async #leftovers(): Promise<string> {
    const look = () => {
      const processes = [...this.#terminals.values()].map(({ children }) => children);
      const sockets = Object.values(this.#hosts).map((host) => host.sh("tail -n +2 /proc/net/udp").trim());
      const files = this.#git("status", "--porcelain", "--ignored").trim();
      return [...processes, ...sockets, files].filter((left) => left !== "").join("\n");
    };
    await wait(() => look() === "", 2000);
    return look();
  }

  /** Begins anew, after a failure. */
  async reset(): Promise<void> {
    for (const terminal of this.#terminals.values()) await terminal.close();
    this.#terminals.clear();
    this.#git("checkout", "-q", ".");
    this.#git("clean", "-qfdx");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
    await this.#network?.[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true });
    rmSync(`${this.#folder}-bin`, { recursive: true });
  }
}

interface Outcome {
  printed: string[][];
  actual: string[][];
  left: string;
}

/** Has a reader play sections one after the other, and says of each how it went. */
async function read(some: Section[], tell: (section: Section, outcome: Outcome | Error) => void) {
  await using reader = await Reader.create();
  for (const section of some) {
    const chance = section.steps.some(({ body }) => CHANCE.test(body));
    let outcome: Outcome | Error = new Error("not played");
    for (let tries = chance ? 60 : 1; tries > 0; tries--) {
      try {
        outcome = await reader.play(section, chance ? 40 : PATIENCE);
        if (outcome.left !== "" || Bun.deepEquals(outcome.printed, outcome.actual)) break;
      } catch (error) {
        outcome = error as Error;
        break;
      }
    }
    tell(section, outcome);
    if (outcome instanceof Error || outcome.left !== "") await reader.reset();
  }
}

/** Why the blocks cannot be pasted here, or `""`. */
function whyUnplayed(): string {
  for (const tool of ["bash", "stty", "ps", "git", "patch"]) {
    if (Bun.which(tool) === null) return `there is no ${tool} here`;
  }
  return forbidden;
}

const unplayed = whyUnplayed();
if (unplayed !== "") console.log(`skipped, the README's experiments: ${unplayed}`);

describe.skipIf(unplayed !== "")("the README's blocks, pasted", () => {
  const python = Bun.which("python3") !== null;
  const playable = sections.filter(({ title, steps }) => {
    const needed = steps.some(({ body }) => body.startsWith("python3 "));
    if (needed && !python) console.log(`skipped, ${title}: there is no python3 here`);
    return python || !needed;
  });
  const readers = {
    "in order": playable,
    "after one was skipped": playable.filter((_, i) => i % 2 === 1),
    "after another was skipped": playable.filter((_, i) => i % 2 === 0),
  };
  // All readers begin with the first test, and each test waits for the outcome of its own.
  const outcomes = new Map<string, PromiseWithResolvers<Outcome | Error>>();
  let reading: Promise<unknown> | undefined;
  const begin = () => {
    reading ??= Promise.all(
      Object.entries(readers).map(async ([how, some]) => {
        const tell = ({ title }: Section, outcome: Outcome | Error) =>
          outcomes.get(`${title}, ${how}`)?.resolve(outcome);
        try {
          await read(some, tell);
        } catch (error) {
          for (const section of some) tell(section, error as Error);
        }
      }),
    );
  };
  afterAll(async () => await reading);

  for (const [how, some] of Object.entries(readers)) {
    for (const { title } of some) {
      const name = `${title}, ${how}`;
      outcomes.set(name, Promise.withResolvers());
      test(name, async () => {
        begin();
        const outcome = await outcomes.get(name)?.promise;
        if (outcome === undefined || outcome instanceof Error) throw outcome;
        expect(outcome.actual).toEqual(outcome.printed);
        expect(outcome.left).toBe("");
      });
    }
  }
});

describe("the README", () => {
  test("has blocks for every experiment and every edit", () => {
    const titles = (chapter: string) =>
      (README.split(/^## /m).find((part) => part.startsWith(`${chapter}\n`)) ?? "").match(/(?<=^### ).*$/gm) ?? [];
    expect(titles("Experiments").length).toBeGreaterThanOrEqual(12);
    expect(titles("Change").length).toBeGreaterThanOrEqual(12);
    for (const chapter of ["Experiments", "Change"]) {
      for (const title of titles(chapter)) {
        const kinds = sections.find((section) => section.title === title)?.steps.map((s) => s.kind);
        expect([title, ...(kinds ?? [])]).toContain("sh");
        expect([title, ...(kinds ?? [])]).toContain("text");
        if (chapter === "Change") expect([title, ...(kinds ?? [])]).toContain("diff");
      }
    }
  });

  test("shows no prompts in what is for pasting, and says where each block belongs", () => {
    for (const { title, steps } of sectionsOf(README)) {
      for (const { kind, body } of steps) {
        if (kind === "sh") expect([title, body]).not.toContainEqual(expect.stringMatching(/^[$>] /m));
      }
    }
    expect(README).not.toContain("```console");
  });

  test("names files, lines and sections that exist", async () => {
    const headings = [...README.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    );
    const links = [...README.matchAll(/\]\(([^)#]*)#?([^)]*)\)/g)];
    expect(links.length).toBeGreaterThan(60);
    for (const [link, file = "", anchor = ""] of links) {
      if (file.startsWith("https://")) continue;
      if (file === "") expect(headings).toContain(anchor);
      else expect(existsSync(join(TOP, file)) ? link : "").toBe(link);
    }
    for (const [, name = ""] of README.matchAll(/`([\w/]+\.(?:ts|py))`/g)) {
      expect(existsSync(join(TOP, name)) ? name : "").toBe(name);
    }
  });

  test("has the right line numbers; else run `bun tests/readme.ts --write`", async () => {
    const { rows, edits } = countsOf(README);
    expect(rows).toBeGreaterThan(50);
    expect(edits).toBeGreaterThanOrEqual(12);
    expect(await synced(README)).toBe(README);
  });

  test("is at most 960 lines long, with a table of contents that fits a screen", () => {
    expect(README.split("\n").length).toBeLessThanOrEqual(960);
    expect(README.indexOf("## Quick start")).toBeGreaterThan(0);
    expect(README.slice(0, README.indexOf("## Quick start")).split("\n").length).toBeLessThan(40);
  });
});

const TSC = join(TOP, "node_modules/.bin/tsc");
if (!existsSync(TSC)) console.log("skipped, the types of the edits: `bun install` was not run");
test.skipIf(!existsSync(TSC) || Bun.which("patch") === null)("every edit keeps to the types", () => {
  const folder = mkdtempSync(join(tmpdir(), "edits-"));
  symlinkSync(join(TOP, "node_modules"), join(folder, "node_modules"));
  // An edit may leave an import that nothing uses any more.
  const loose = { noUnusedLocals: false, noUnusedParameters: false };
  const config = {
    extends: join(TOP, "tsconfig.json"),
    include: ["*/*.ts"],
    compilerOptions: loose,
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const edited = sections.filter(({ steps }) => steps.some(({ kind }) => kind === "diff"));
  expect(edited.length).toBeGreaterThan(0);
  for (const [i, { title, steps }] of edited.entries()) {
    const copy = join(folder, String(i));
    mkdirSync(copy);
    for (const script of new Bun.Glob("*.ts").scanSync(TOP)) cpSync(join(TOP, script), join(copy, script));
    for (const { kind, body } of steps) {
      if (kind !== "diff") continue;
      const stdin = Buffer.from(body);
      const { exitCode } = Bun.spawnSync(["patch", "--batch"], { cwd: copy, stdin });
      expect([title, exitCode]).toEqual([title, 0]);
    }
  }
  const { stdout } = Bun.spawnSync([TSC, "--noEmit", "-p", folder], { cwd: folder });
  expect(stdout.toString()).toBe("");
  rmSync(folder, { recursive: true });
});

describe("what the README says may be taken away", () => {
  /** The lines of an exported function in a file of ours. */
  const linesOf = async (file: string, name: string) => {
    const text = await Bun.file(join(TOP, file)).text();
    const found = text.match(new RegExp(`^export function\\*? ${name}\\(.*?^}$`, "ms"))?.[0];
    expect([name, found]).toEqual([name, expect.any(String)]);
    return found ?? "";
  };
  /** Runs a program in a folder with nothing but some files, and returns what it prints. */
  const alone = async (files: Record<string, string>) => {
    const folder = mkdtempSync(join(tmpdir(), "alone-"));
    for (const [name, text] of Object.entries(files)) await Bun.write(join(folder, name), text);
    const { stdout, stderr } = Bun.spawnSync([process.execPath, "main.ts"], { cwd: folder });
    rmSync(folder, { recursive: true });
    return stdout.toString() + stderr.toString();
  };

  const functions: [file: string, names: string[], use: string, prints: string][] = [
    ["udp_helpers.ts", ["backoff"], "[...backoff()].join(' ')", "0.1 0.2 0.4 0.8 1.6"],
    ["udp_helpers.ts", ["sameAddress"], "sameAddress({ address: 'a', port: 1 }, { address: 'a', port: 2 })", "false"],
    ["udp_helpers.ts", ["newRequestId", "requestIdOf"], "requestIdOf(newRequestId() + 'text').length", "19"],
    ["udp_helpers.ts", ["subnetOf"], "subnetOf('192.168.5.10/24').broadcast", "192.168.5.255"],
    ["terminal.ts", ["repr"], "repr('\\x1b') + repr({ address: 'a', port: 1 })", "'\\x1b'('a', 1)"],
  ];
  for (const [file, names, use, prints] of functions) {
    test(`the lines of ${names.join(" and ")} need no others`, async () => {
      const lines = await Promise.all(names.map((name) => linesOf(file, name)));
      const main = `${lines.join("\n")}\nconsole.log(${use});\n`;
      expect(await alone({ "main.ts": main })).toBe(`${prints}\n`);
    });
  }

  test("Inbox, sendTo and print work in a folder with their two files only", async () => {
    const text = async (name: string) => await Bun.file(join(TOP, name)).text();
    const files = {
      "udp_helpers.ts": await text("udp_helpers.ts"),
      "terminal.ts": await text("terminal.ts"),
    };
    const socketOf = "await Bun.udpSocket({ hostname: '127.0.0.1', socket: inbox })";
    const main = `import { Inbox } from "./udp_helpers.ts";
      const inbox = new Inbox();
      const sock = ${socketOf};
      sock.send("hello", sock.address.port, "127.0.0.1");
      const [data] = await inbox.receive();
      console.log(String(data));
      sock.close();`;
    expect(await alone({ ...files, "main.ts": main })).toBe("hello\n");
    const both = `import { Inbox, sendTo } from "./udp_helpers.ts";
      import { print } from "./terminal.ts";
      const inbox = new Inbox();
      const sock = ${socketOf};
      sendTo(sock, "hello", sock.address);
      for await (const [data] of inbox.within(10)) { print(String(data)); break; }
      sock.close();`;
    expect(await alone({ ...files, "main.ts": both })).toBe("hello\n");
  });

  test("backoff holds a cap, which it never exceeds", async () => {
    const delays = backoff({ cap: 300 });
    const all = Array.from({ length: 1000 }, () => delays.next().value ?? 0);
    expect(all.slice(0, 6)).toEqual([0.1, 0.2, 0.4, 0.8, 1.6, 3.2]);
    expect(all.slice(11, 14)).toEqual([204.8, 300, 300]);
    expect(Math.max(...all)).toBe(300);
    expect([...backoff({ cap: 1, limit: 0.5 })]).toEqual([0.1, 0.2, 0.4]);
    expect(() => [...backoff({ first: 2, cap: 1 })]).toThrow("backoff needs first <= cap");
  });
});
