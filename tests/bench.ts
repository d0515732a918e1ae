/**
 * How fast the servers answer, beside a bare Bun server that prints each line as well, but neither loops nor checks (the
 * limit that Bun sets): `bun run bench`. Each figure is the median of several rounds, in which the servers take turns.
 * Compare ratios, not rates: another machine, or the same one an hour later, has other rates.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { shell } from "./support/processes.ts";

const ROUNDS = 5;
const SECONDS = 1;
const WINDOWS = [1, 16, 64]; // requests under way
const REQUEST = "The time is 2014-06-05 10:34:53.448338";

const file = join(tmpdir(), `bench-${crypto.randomUUID()}`);
const bare = `${file}.ts`;
await Bun.write(
  bare,
  `import { writeSync } from "node:fs";
  const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { error() {}, data(sock, data, port, address) {
    writeSync(1, "The client at ('" + address + "', " + port + ") says '" + data.toString("latin1") + "'\\n");
    sock.send("Your data was " + data.length + " bytes long", port, address);
  } } });
  console.log("Listening at ('127.0.0.1', " + sock.port + ")");`,
);
const SERVERS: Record<string, string> = {
  bare,
  "udp_local.ts": "udp_local.ts server -p 0",
  "udp_remote.ts": "udp_remote.ts server 127.0.0.1 --drop 0 -p 0",
};

const median = (values: number[] = []) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Keeps some requests under way, for a while, and counts the replies per second. */
async function rateOf(port: number, window: number): Promise<number> {
  let replies = 0;
  const data = () => {
    replies++;
    load.send(REQUEST);
  };
  const load = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port }, socket: { data, error() {} } });
  load.sendMany(Array.from({ length: window }, () => REQUEST));
  await Bun.sleep(SECONDS * 1000);
  load.close();
  return replies / SECONDS;
}

const rates: Record<string, number[][]> = {}; // of each server, for each window, one for each round
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, command] of Object.entries(SERVERS)) {
    await using server = shell(`exec "$bun" ${command} >'${file}'`);
    const printed = () => (existsSync(file) ? readFileSync(file, "latin1") : "");
    const port = Number(await server.until("port", () => /(\d+)\)\n/.exec(printed())?.[1]));
    rates[name] ??= WINDOWS.map(() => []);
    for (const [i, window] of WINDOWS.entries()) rates[name][i]?.push(await rateOf(port, window));
    rmSync(file);
  }
}
rmSync(bare);

const limits = rates.bare?.map(median) ?? [];
for (const [name, windows] of Object.entries(rates)) {
  for (const [i, rate] of windows.map(median).entries()) {
    const ratio = (rate / (limits[i] ?? 1)).toFixed(2);
    console.log(`${name}, ${WINDOWS[i]} under way: ${rate.toFixed()} replies a second, ${ratio} of the bare server's`);
  }
}
