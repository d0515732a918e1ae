/**
 * How fast servers and clients are, beside Python's, where there is a python3, and beside a bare Bun server, which neither
 * loops nor checks, the limit that Bun sets: `bun run bench`. All of them show each line at once. They take turns, and a
 * figure is the median of the rounds. Compare ratios, not rates: another machine, or an hour, has other rates.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { emptyFolder } from "./support/folders.ts";
import { Running, shell, start } from "./support/processes.ts";

const ROUNDS = 5;
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

const folder = emptyFolder();
const [bare, output] = [join(folder, "bare.ts"), join(folder, "output")];
await Bun.write(bare, BARE);
// The interpreter itself: what the path names may be a script that looks for it.
const which = Bun.which("python3") === null ? "" : await Bun.$`python3 -c "import sys; print(sys.executable)"`.text();
const python = which.trim();
const servers: [name: string, command: string][] = [
  ["bare", `"$bun" ${bare}`],
  ["udp_local.ts", '"$bun" udp_local.ts server -p 0'],
  ["udp_remote.ts", '"$bun" udp_remote.ts server 127.0.0.1 --drop 0 -p 0'],
];
if (python !== "") servers.push(["Python", `${python} experiments/server.py 0`]);

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** On a terminal, how far it is; a line is written over it. */
const progress = (text: string) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`);

function row(name: string, figures: (number | undefined)[], digits: number): void {
  progress("");
  console.log(name.padEnd(24) + figures.map((figure = Number.NaN) => figure.toFixed(digits).padStart(9)).join(""));
}

/** A server whose output goes into a file, and its port. */
async function serve(command: string): Promise<Running> {
  const server = shell(`exec ${command} >${output}`);
  server.port = Number(await server.until("port", () => /(\d+)\)\n/.exec(readFileSync(output, "latin1"))?.[1]));
  return server;
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
  for (const [name, command] of servers) {
    await Bun.write(output, "");
    await using server = await serve(command);
    rates[name] ??= WINDOWS.map(() => []);
    for (const [i, window] of WINDOWS.entries()) {
      progress(`round ${round} of ${ROUNDS}: ${name}, ${window} under way`);
      rates[name][i]?.push(await rateOf(server.port, window));
    }
    row(
      `${name}, replies/s`,
      rates[name].map((rounds) => rounds.at(-1)),
      0,
    );
  }
}
const medians = Object.entries(rates).map(([name, windows]) => [name, windows.map(median)] as const);
for (const [other, theirs] of medians) {
  if (other !== "bare" && other !== "Python") continue;
  for (const [name, figures] of medians) {
    if (name.endsWith(".ts"))
      row(
        `${name} / ${other}`,
        figures.map((figure, i) => figure / (theirs[i] ?? 1)),
        2,
      );
  }
}

/** How long a client takes, from its start to its end, in ms. */
async function timeOf(command: string[], port: number): Promise<number> {
  const begin = performance.now();
  await using client = new Running([...command, String(port)]);
  await client.done();
  return performance.now() - begin;
}

if (python !== "") {
  await using server = start("udp_remote.ts server 127.0.0.1 --drop 0 -p 0");
  const [, port] = await server.line(/(\d+)\)$/);
  const [ours, pythons]: [number[], number[]] = [[], []];
  for (let pair = 1; pair <= PAIRS; pair++) {
    progress(`clients ${pair} of ${PAIRS}`);
    ours.push(await timeOf([process.execPath, "udp_remote.ts", "client", "-p"], Number(port)));
    pythons.push(await timeOf([python, "-c", CLIENT], Number(port)));
  }
  row("client / Python's, whole", [median(ours) / median(pythons)], 2);
}
