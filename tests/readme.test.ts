/**
 * The README, executed: each console block is a terminal, in which its commands are typed as they stand, and what
 * appears is compared with what is printed there. Only ports that the system chose, times and request IDs may differ,
 * and those alike wherever they stand in a section. The hosts are those that the README tells of.
 */
import { describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Host, type Network, namespaceTest } from "./network.ts";
import { PATIENCE, Running, useProcesses } from "./scripts.ts";

useProcesses();

const TOP = join(import.meta.dir, "..");
const README = await Bun.file(join(TOP, "README.md")).text();

/** A command of a console block, with the lines printed below it. */
interface Step {
  command: string;
  lines: string[];
}

/** A console block: its host, and the number of its terminal where a later block goes on in it. */
interface Block {
  host: string;
  terminal: string;
  steps: Step[];
}

function blocksOf(section: string): Block[] {
  const found = [...section.matchAll(/^```console ?(\w*) ?(\w*)\n(.*?)^```$/gms)];
  return found.map(([, host = "", number, body = ""], i) => {
    const steps: Step[] = [];
    for (const line of body.split("\n").slice(0, -1)) {
      const last = steps.at(-1);
      if (line.startsWith("$ ")) steps.push({ command: line.slice(2), lines: [] });
      else if (last && line.startsWith("> ")) last.command += `\n${line.slice(2)}`;
      else if (last) last.lines.push(line);
    }
    return {
      host: host || "alice",
      terminal: `${host || "alice"} ${number || `block ${i}`}`,
      steps,
    };
  });
}

/** What the README's ports, times and IDs are in this run. */
class Meanings {
  readonly #actual = new Map<string, string>();
  static readonly varying =
    /(?<=\('[\d.]+', )(?:3[2-9]|[456]\d)\d{3}(?=\))|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}|\[[0-9a-f]{16}\]/g;

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

/** A shell on a host, with all that appears in it. */
class Terminal {
  printed: string[] = [];
  #shell: Running;
  #done = 0;

  constructor(host: Host, folder: string) {
    this.#shell = new Running([...host.prefix, "env", `PATH=${folder}/bin:${process.env.PATH}`, "bash"]);
    this.#type(`exec 2>&1; cd '${folder}'`);
  }

  #type(command: string): void {
    this.#shell.process.stdin.write(`${command}\n`);
    this.#shell.process.stdin.flush();
  }

  get lines(): string[] {
    return this.#shell.out.split("\n").filter((line) => line !== "" && !line.startsWith("done "));
  }

  /** Types a command and waits for its end; where it stays, for its first line. */
  async run({ command, lines }: Step): Promise<void> {
    const before = this.lines.length;
    this.printed.push(...lines);
    const stays = / server\b[^&|]*$/.test(command) || command.endsWith("&");
    if (stays && !command.endsWith("&")) this.#type(command);
    else this.#type(`${command}\necho "done ${++this.#done}"`);
    await this.#shell.until(`end of ${command}`, () =>
      stays && lines.length > 0 ? this.lines.length > before : this.#shell.out.includes(`done ${this.#done}\n`),
    );
  }

  /** Waits until as much has appeared as is printed; the rest is for the comparison. */
  async settle(patience: number): Promise<void> {
    const end = performance.now() + patience;
    while (this.lines.length < this.printed.length && performance.now() < end) await Bun.sleep(10);
  }

  async close(): Promise<void> {
    process.kill(-this.#shell.process.pid, "SIGKILL");
    await this.#shell.end();
  }
}

/** alice 192.168.5.10 ---- switch ---- 192.168.5.11 bob; and alice ---- router --1400-- carol 10.0.0.2 */
async function networkOf(net: Network): Promise<Record<string, Host>> {
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
  return { alice, bob };
}

/** Plays a section in terminals of its own; returns what is printed and what appeared, alike where they agree. */
async function play(blocks: Block[], hosts: Record<string, Host>, patience: number) {
  const folder = mkdtempSync(join(tmpdir(), "readme-"));
  for (const script of new Bun.Glob("*.ts").scanSync(TOP)) cpSync(join(TOP, script), join(folder, script));
  mkdirSync(join(folder, "bin"));
  symlinkSync(process.execPath, join(folder, "bin/bun"));
  const terminals = new Map<string, Terminal>();
  try {
    for (const { host, terminal, steps } of blocks) {
      const here = hosts[host];
      if (here === undefined) throw new Error(`there is no host ${host}`);
      const screen = terminals.get(terminal) ?? new Terminal(here, folder);
      terminals.set(terminal, screen);
      for (const step of steps) await screen.run(step);
    }
    for (const screen of terminals.values()) await screen.settle(patience);
    const meanings = new Meanings();
    const printed = [...terminals.values()].map((screen) => screen.printed);
    const actual = [...terminals.values()].map(({ lines }, i) =>
      lines.map((line, j) => {
        const like = printed[i]?.[j];
        return like !== undefined && meanings.agree(like, line) ? like : line;
      }),
    );
    return { printed, actual };
  } finally {
    for (const screen of terminals.values()) await screen.close();
    rmSync(folder, { recursive: true });
  }
}

describe("the README", () => {
  const sections = README.split(/^(?=###? )/m).filter((section) => section.includes("```console"));

  for (const section of sections) {
    const title = section.slice(0, section.indexOf("\n")).replace(/^#+ /, "");
    const blocks = blocksOf(section);
    const commands = blocks.flatMap(({ steps }) => steps.map(({ command }) => command));
    // Where half of the requests are dropped, what is printed happens now and then: it is tried until it does.
    const chance = commands.some((command) => /udp_remote.ts server(?!.*--drop)/.test(command));
    const python = commands.some((command) => command.startsWith("python3"));
    if (python && Bun.which("python3") === null) {
      console.log(`skipped, ${title}: there is no python3 here`);
      continue;
    }
    namespaceTest(title, async (net) => {
      const hosts = await networkOf(net);
      for (let tries = chance ? 60 : 1; tries > 0; tries--) {
        const { printed, actual } = await play(blocks, hosts, chance ? 300 : PATIENCE);
        if (tries > 1 && !Bun.deepEquals(printed, actual)) continue;
        expect(actual).toEqual(printed);
        break;
      }
    });
  }

  test("has a console block for every experiment", () => {
    expect(sections.length).toBeGreaterThanOrEqual(14);
    const experiments = README.split(/^## /m).find((part) => part.startsWith("Experiments\n")) ?? "";
    for (const experiment of experiments.split(/^### /m).slice(1)) {
      expect(experiment).toContain("```console");
    }
  });

  test("names files, lines and sections that exist", async () => {
    const headings = [...README.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    );
    const links = [...README.matchAll(/\]\(([^)#]*)#?([^)]*)\)/g)];
    expect(links.length).toBeGreaterThan(20);
    for (const [link, file = "", anchor = ""] of links) {
      if (file === "") expect(headings).toContain(anchor);
      else expect(existsSync(join(TOP, file)) ? link : "").toBe(link);
    }
    for (const [, name = ""] of README.matchAll(/`([\w/]+\.ts)`/g)) {
      expect(existsSync(join(TOP, name)) ? name : "").toBe(name);
    }
  });

  test("shows code that stands at the line it names", async () => {
    const rows = [...README.matchAll(/^\|.*\| `([^|]*)` +\| \[(.*):(\d+)\]\((.*)#L(\d+)\)/gm)];
    expect(rows.length).toBeGreaterThan(20);
    for (const [, code = "", name, number, file = "", anchor] of rows) {
      expect([name, number]).toEqual([file, anchor]);
      const line = (await Bun.file(join(TOP, file)).text()).split("\n")[Number(number) - 1];
      expect(line).toContain(code);
    }
  });
});
