/** Whoever reads the output, slowly or not at all, floods, Ctrl-C: a script does what it would in Python. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { emptyFolder } from "./support/folders.ts";
import { networkTest, noFullDisk, notLinux, skips } from "./support/machine.ts";
import { Actor, ENDLESS, LOOPBACK, Peer } from "./support/peers.ts";
import { LONG, pipe, serve, shell, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s ends each script with %p", async (signal, status) => {
  for (const command of ["udp_local.ts server", "udp_remote.ts server", "udp_broadcast.ts server"]) {
    await using server = await serve(command);
    const { out } = server;
    server.kill(signal);
    expect(await server.end()).toEqual({ status, out, err: "" });
  }
  for (const script of ["udp_local.ts", "udp_remote.ts"]) {
    using peer = await Peer.create();
    await using client = start(`${script} client -p ${peer.port}`);
    await peer.receive();
    client.kill(signal);
    expect(await client.end()).toMatchObject({ status, err: "" });
  }
});

networkTest("Ctrl-C, and docker stop, end process 1 of a container", async (net) => {
  const { prefix } = await net.host("host");
  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    await using server = await serve("udp_local.ts server", {
      prefix: [...prefix, "unshare", "-p", "--fork", "--kill-child"],
    });
    // unshare itself may not survive it.
    const { stdout } = Bun.spawnSync(["ps", "-o", "pid=", "--ppid", String(server.process.pid)]);
    process.kill(Number(stdout), signal);
    expect((await server.end()).status).toBe(status);
  }
});

test.skipIf(skips(noFullDisk)).each(["udp_local.ts server -p 0", "udp_local.ts --help"])(
  "a full disk is said in one line: %s",
  async (words) => {
    await using one = shell(`"$bun" ${words} >/dev/full`);
    const err = expect.stringMatching(/^Cannot write the output: ENOSPC.*\n$/);
    expect(await one.end()).toEqual({ status: 1, out: "", err });
  },
);

test.skipIf(skips(noFullDisk))("an error that cannot be written changes no status", async () => {
  await using one = shell('"$bun" udp_local.ts peer 2>/dev/full');
  expect(await one.end()).toEqual({ status: 2, out: "", err: "" });
});

test.skipIf(skips(notLinux))("both outputs in one pipe, read slowly, lose nothing and keep their order", async () => {
  const program = `import { dlopen } from "bun:ffi";
    import { print, warn } from "./terminal.ts";
    for (let i = 0; i < 5000; i++) {
      print("out", i, "x".repeat(i % 1000 === 1 ? 100_000 : i % 100)); // more than a pipe holds, now and then
      if (i % 3 === 0) warn("err " + i);
      if (i !== 2500) continue;
      // F_SETFL, O_NONBLOCK: as a program does that shares the pipe
      dlopen("libc.so.6", { fcntl: { args: ["int", "int", "int"], returns: "int" } }).symbols.fcntl(1, 4, 0o4000);
    }`;
  const reader = '{ while read -r line; do echo "$line"; done; }';
  await using both = shell(`"$bun" -e '${program}' 2>&1 | { sleep 0.3; ${reader}; }`);
  const expected = Array.from({ length: 5000 }, (_, i) => {
    const line = `out ${i} ${"x".repeat(i % 1000 === 1 ? 100_000 : i % 100)}`.trim();
    return i % 3 === 0 ? [line, `err ${i}`] : [line];
  });
  expect((await both.done()).split("\n").map((line) => line.trim())).toEqual([...expected.flat(), ""]);
});

describe("a reader of the output that stops reading", () => {
  /** A reader that reads on when told. */
  const unread = () => pipe("udp_local.ts server", "read -r go <&3; cat");
  const numbers = (out: string) => out.match(/(?<='request )\d+(?=')/g)?.map(Number) ?? [];
  const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

  /** Asks until the server, like the book's, waits for its reader; returns how many requests were answered. */
  async function askUntilItWaits(peer: Peer, port: number): Promise<number> {
    for (let i = 0; ; i++) {
      peer.send(`request ${i}`, port);
      if ((await peer.receiveWithin(1000)) === undefined) return i;
    }
  }

  test("stops the server, and costs no line and no reply once it reads on", async () => {
    await using both = await unread();
    using peer = await Peer.create();
    const answered = await askUntilItWaits(peer, both.port);
    expect(answered).toBeGreaterThan(100); // what a pipe holds
    for (let i = 1; i <= 50; i++) peer.send(`request ${answered + i}`, both.port);
    both.type("go");
    for (let i = 0; i <= 50; i++) await peer.receive();
    await both.until("all lines", () => both.out.includes(`'request ${answered + 50}'\n`));
    expect(numbers(both.out)).toEqual(upTo(answered + 51));
  });

  test("does not keep Ctrl-C from ending the server, nor lose what was answered", async () => {
    await using both = await unread();
    using peer = await Peer.create();
    const answered = await askUntilItWaits(peer, both.port);
    process.kill(both.pid, "SIGINT");
    await both.until("end", () => both.err.endsWith("\nstatus 130\n"));
    both.type("go");
    expect(numbers((await both.end()).out).slice(0, answered)).toEqual(upTo(answered));
  });

  test("ends the server when it goes", async () => {
    await using both = await pipe("udp_remote.ts server 127.0.0.1 --drop 0", 'read -r line; echo "$line"');
    using peer = await Peer.create();
    await peer.ask("good", both.port);
    // It notices with the next line that it writes, once the reader has really gone.
    await both.until("end", () => {
      peer.send("one too many", both.port);
      return both.err.endsWith("\nstatus 0\n");
    });
    expect((await both.end()).out.split("\n")).toHaveLength(3);
  });
});

networkTest(
  "Ctrl-C ends a server at once under a flood",
  async (net) => {
    const host = await net.host("host");
    // Into a file: this process would be busy with reading.
    const file = join(emptyFolder(), "flood");
    await using server = shell(`exec "$bun" udp_local.ts server -p 0 >${file}`, host);
    const printed = () => (existsSync(file) ? readFileSync(file, "latin1") : "");
    const port = Number(await server.until("port", () => /(\d+)\)\n/.exec(printed())?.[1]));
    await using one = await Actor.create(host);
    await using two = await Actor.create(host);
    const flood = { texts: ["x".repeat(100)], to: { address: LOOPBACK, port }, count: ENDLESS };
    for (const actor of [one, two]) actor.order(flood);
    await server.until("flood", () => printed().length > 100_000);
    const begin = performance.now();
    server.kill("SIGINT");
    expect((await server.end()).status).toBe(130);
    expect(performance.now() - begin).toBeLessThan(500);
  },
  test.serial,
);

test("an idle server takes no CPU time", async () => {
  await using idle = await serve("udp_local.ts server");
  await Bun.sleep(1000);
  idle.kill("SIGTERM");
  await idle.end();
  const milliseconds = Number(idle.process.resourceUsage()?.cpuTime.total) / 1000;
  expect(milliseconds).toBeWithin(1, 300); // what its start takes
});
