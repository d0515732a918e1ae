#!/usr/bin/env bun
/**
 * How fast servers and clients are, beside Python's, where there is a python3, and beside a bare Bun server, which neither
 * loops nor checks, the limit that Bun sets: `bun run bench`. All of them show each line at once. They take turns, and a ratio
 * is the median of the rounds'. Compare ratios, not rates: another machine, or an hour, has other rates.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROUNDS = 7;
const SECONDS = 1;
const WINDOWS = [1, 16, 64]; // requests under way
const PAIRS = 40; // of clients

const BARE = `import { writeSync } from "node:fs";
  const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { error() {}, data(sock, data, port, address) {
    writeSync(1, "The client at ('" + address + "', " + port + ") says '" + data.toString("latin1") + "'\\n");
    sock.send("Your data was " + data.length + " bytes long", port, address);
  } } });
  console.log("Listening at ('127.0.0.1', " + sock.port + ")");`;
const CLIENT = `import argparse, random, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", int(sys.argv[1])))
print("Client socket name is {}".format(sock.getsockname()))
sock.send(b"This is another message")
print("Waiting up to 0.1 seconds for a reply")
sock.settimeout(0.1)
print("The server says {!r}".format(sock.recv(65535).decode("ascii")))`;

const TOP = join(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "bench-"));
const [bare, output] = [join(folder, "bare.ts"), join(folder, "output")];
await Bun.write(bare, BARE);
let server: Bun.Subprocess | undefined;
process.on("exit", () => {
  server?.kill();
  rmSync(folder, { recursive: true });
});
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));

// The interpreter itself: what the path names may be a script that looks for it.
const which = Bun.which("python3") === null ? "" : await Bun.$`python3 -c "import sys; print(sys.executable)"`.text();
const python = which.trim();
const here = (words: string) => [process.execPath, ...words.split(" ")];
const servers: Record<string, string[]> = {
  bare: [process.execPath, bare],
  "udp_local.ts": here("udp_local.ts server -p 0"),
  "udp_remote.ts": here("udp_remote.ts server 127.0.0.1 --drop 0 -p 0"),
};
if (python !== "") servers.Python = [python, "experiments/server.py", "0"];

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** On a terminal, how far it is; a line is written over it. */
const progress = (text: string) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`);

function row(name: string, figures: (number | undefined)[], digits: number): void {
  progress("");
  console.log(name.padEnd(24) + figures.map((figure = Number.NaN) => figure.toFixed(digits).padStart(9)).join(""));
}

/** Starts a server whose output goes into a file, in place of the one before, and returns its port. */
async function portOf(command: string[]): Promise<number> {
  server?.kill();
  await server?.exited;
  await Bun.write(output, "");
  server = Bun.spawn(command, { cwd: TOP, stdout: Bun.file(output), stderr: "inherit" });
  for (;;) {
    const [, port] = /(\d+)\)\n/.exec(readFileSync(output, "latin1")) ?? [];
    if (port !== undefined) return Number(port);
    if (server.exitCode !== null) process.exit(1); // It has said why.
    await Bun.sleep(10);
  }
}

/** Keeps some requests under way, for a while, and counts the replies per second. */
async function rateOf(port: number, window: number): Promise<number> {
  const request = "The time is 2014-06-05 10:34:53.448338";
  let replies = 0;
  const data = () => {
    replies++;
    load.send(request);
  };
  const load = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port }, socket: { data, error() {} } });
  load.sendMany(Array.from({ length: window }, () => request));
  await Bun.sleep(SECONDS * 1000);
  load.close();
  return replies / SECONDS;
}

row("requests under way", WINDOWS, 0);
const rates: Record<string, number[][]> = {}; // of each server, for each window, one for each round
for (let round = 1; round <= ROUNDS; round++) {
  for (const [name, command] of Object.entries(servers)) {
    const port = await portOf(command);
    rates[name] ??= WINDOWS.map(() => []);
    for (const [i, window] of WINDOWS.entries()) {
      progress(`round ${round} of ${ROUNDS}: ${name}, ${window} under way`);
      rates[name][i]?.push(await rateOf(port, window));
    }
    row(
      `${name}, replies/s`,
      rates[name].map((rounds) => rounds.at(-1)),
      0,
    );
  }
}
// Each round's own ratios, since the machine may be another one a minute later.
for (const other of ["bare", "Python"].filter((name) => name in servers)) {
  for (const [name, windows] of Object.entries(rates)) {
    if (!name.endsWith(".ts")) continue;
    const ratios = windows.map((rounds, i) =>
      median(rounds.map((rate, round) => rate / (rates[other]?.[i]?.[round] ?? NaN))),
    );
    row(`${name} / ${other}`, ratios, 2);
  }
}

/** How long a client takes, from its start to its end, in ms. */
async function timeOf(command: string[]): Promise<number> {
  const begin = performance.now();
  await Bun.spawn(command, { cwd: TOP, stdout: "pipe", stderr: "inherit" }).exited;
  return performance.now() - begin;
}

if (python !== "") {
  const port = await portOf(here("udp_remote.ts server 127.0.0.1 --drop 0 -p 0"));
  const [ours, pythons]: [number[], number[]] = [[], []];
  for (let pair = 1; pair <= PAIRS; pair++) {
    progress(`clients ${pair} of ${PAIRS}`);
    ours.push(await timeOf(here(`udp_remote.ts client -p ${port}`)));
    pythons.push(await timeOf([python, "-c", CLIENT, String(port)]));
  }
  row("client / Python's, whole", [median(ours) / median(pythons)], 2);
}
process.exit(); // The last server would keep it.
