/**
 * How fast the servers answer, beside a bare Bun server that prints each line as well, but neither loops nor checks (the
 * limit that Bun sets): `bun run bench`. Each figure is the median of several rounds, in which the servers take turns. Compare ratios, not
 * rates: another machine, or the same one an hour later, has other rates.
 */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memoryOf, type Running, run, shell } from "./scripts.ts";

const ROUNDS = 3;
const SECONDS = 2;
const WINDOWS = [1, 16, 64];
const REQUEST = "The time is 2014-06-05 10:34:53.448338";

const BARE = `import { writeSync } from "node:fs";
  const sock = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { error() {}, data(sock, data, port, address) {
    writeSync(1, "The client at ('" + address + "', " + port + ") says '" + data.toString("latin1") + "'\\n");
    sock.send("Your data was " + data.length + " bytes long", port, address);
  } } });
  console.log("Listening at (" + sock.port + ")");`;

const BARE_FILE = join(tmpdir(), `bare-${crypto.randomUUID()}.ts`);

const SERVERS: Record<string, string> = {
  bare: `"$bun" '${BARE_FILE}'`,
  "udp_local.ts": '"$bun" udp_local.ts server -p 0',
  "udp_remote.ts": '"$bun" udp_remote.ts server 127.0.0.1 --drop 0 -p 0',
};

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Starts a server that writes its lines into a file, as `>` does. */
async function startInto(file: string, command: string): Promise<{ server: Running; port: number }> {
  const server = shell(`exec ${command} >'${file}'`);
  for (;;) {
    const text = (await Bun.file(file).exists()) ? await Bun.file(file).text() : "";
    const port = /(\d+)\)\n/.exec(text)?.[1];
    if (port !== undefined) return { server, port: Number(port) };
    await Bun.sleep(5);
  }
}

/** Keeps some requests under way, for a while, and counts the replies per second. */
async function measure(port: number, window: number): Promise<number> {
  let replies = 0;
  const begin = performance.now();
  const load = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port },
    socket: {
      data() {
        replies++;
        load.send(REQUEST);
      },
      error() {},
    },
  });
  load.sendMany(Array.from({ length: window }, () => REQUEST));
  await Bun.sleep(SECONDS * 1000);
  load.close();
  return (replies / (performance.now() - begin)) * 1000;
}

if (import.meta.main) {
  const file = join(tmpdir(), `bench-${crypto.randomUUID()}`);
  await Bun.write(BARE_FILE, BARE);
  const rates: Record<string, number[][]> = {};
  const peaks: Record<string, number> = {};
  const firsts: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, command] of Object.entries(SERVERS)) {
      const { server, port } = await startInto(file, command);
      for (const [i, window] of WINDOWS.entries()) {
        rates[name] ??= WINDOWS.map(() => []);
        rates[name][i]?.push(await measure(port, window));
      }
      if (process.platform === "linux") peaks[name] = await memoryOf(server.process.pid, true);
      if (name === "udp_local.ts") {
        for (let i = 0; i < 5; i++) {
          const begin = performance.now();
          await run(`udp_local.ts client -p ${port}`);
          firsts.push(performance.now() - begin);
        }
      }
      server.kill("SIGTERM");
      await server.end();
      rmSync(file);
    }
  }

  rmSync(BARE_FILE);

  const bare = rates.bare?.map(median) ?? [];
  const rows = Object.entries(rates).map(([name, windows]) => {
    const own = windows.map(median);
    const columns = WINDOWS.flatMap((window, i) => [
      [`${window} under way, replies/s`, own[i]?.toFixed()],
      [`ratio at ${window}`, ((own[i] ?? 0) / (bare[i] ?? 1)).toFixed(2)],
    ]);
    const memory = [
      ["peak, MiB", peaks[name]?.toFixed(1)],
      ["over bare", ((peaks[name] ?? 0) - (peaks.bare ?? 0)).toFixed(1)],
    ];
    return { server: name, ...Object.fromEntries([...columns, ...memory]) };
  });
  console.table(rows);
  console.log(`A whole udp_local.ts client, to its reply: ${median(firsts).toFixed(1)} ms`);
}
