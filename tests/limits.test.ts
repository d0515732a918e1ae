/** What holds under floods, for stopped processes and terminals, and whoever reads the output. */
import { describe, expect } from "bun:test";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namespaceTest } from "./network.ts";
import { Actor, Peer } from "./peers.ts";
import { LARGEST, noFullDisk, noSignals, testUnless } from "./platform.ts";
import { PATIENCE, Running, run, serve, shell, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const CONTROLS = Buffer.from(Array.from({ length: LARGEST }, (_, i) => i % 32));

/** Sends datagrams at an even pace until it is told to stop; returns how many. */
function flood(send: () => void, perSecond: number) {
  let sent = 0;
  const begin = performance.now();
  const timer = setInterval(() => {
    for (; sent < ((performance.now() - begin) * perSecond) / 1000; sent++) send();
  }, 2);
  return () => {
    clearInterval(timer);
    return sent;
  };
}

describe("500 of the largest datagrams a second, of control characters", () => {
  test("do not stretch the waits of a client with a request ID", async () => {
    using peer = await Peer.create();
    const client = start(`udp_remote.ts client -p ${peer.port} --request-id`);
    const { port } = await peer.receive();
    const begin = performance.now();
    const stop = flood(() => peer.send(CONTROLS, port), 500);
    const { status, err } = await client.end();
    const seconds = (performance.now() - begin) / 1000;
    expect(stop()).toBeGreaterThan(1000);
    expect(status).toBe(1);
    expect(err).toEndWith("\nI think the server is down\n");
    expect(err.split("\n").length).toBeGreaterThan(100);
    expect(seconds).toBeGreaterThan(3);
    expect(seconds).toBeLessThan(3.6);
  });

  test("leave a server at 100 a second answering others", async () => {
    const server = await serve("udp_local.ts server");
    using stranger = await Peer.create();
    using peer = await Peer.create();
    const stop = flood(() => stranger.send(CONTROLS, server.port), 100);
    const times: number[] = [];
    for (let i = 0; i < 20; i++) {
      const begin = performance.now();
      peer.send("good", server.port);
      await peer.receive();
      times.push(performance.now() - begin);
      await Bun.sleep(20);
    }
    stop();
    expect(Math.max(...times)).toBeLessThan(200);
  });
});

test("a client that is stopped in any of its waits takes the reply that came meanwhile, and not what came later", async () => {
  const cases = [0.1, 0.8, 1.6].flatMap((wait) => ["", " --request-id"].map((option) => [wait, option] as const));
  await Promise.all(
    cases.map(async ([wait, option]) => {
      using peer = await Peer.create();
      const client = start(`udp_remote.ts client -p ${peer.port}${option}`);
      await client.line(`Waiting up to ${wait} seconds for a reply`);
      client.kill("SIGSTOP");
      const { text, port } = await peer.receive();
      const id = text.match(/^\[.*\] /)?.[0] ?? "";
      for (let i = 0; i < 20 && id !== ""; i++) peer.send("FAKE", port);
      peer.send(`${id}in time`, port);
      await Bun.sleep(wait * 1000 + 300);
      client.kill("SIGCONT");
      const { status, out } = await client.end();
      expect({ status, last: out.split("\n").slice(-3) }).toEqual({
        status: 0,
        last: [`Waiting up to ${wait} seconds for a reply`, `The server says '${id}in time'`, ""],
      });
    }),
  );
});

test("100 datagrams of a stranger while nobody reads stderr cost the client no true reply", async () => {
  using server = await Peer.create();
  using stranger = await Peer.create();
  const both = shell(
    `exec 3<&0 4>&1; "$bun" udp_local.ts client -p ${server.port} 2>&1 1>&4 3<&- | { read -r go <&3; cat; }`,
  );
  const { port } = await server.receive();
  for (let i = 0; i < 100; i++) stranger.send("x".repeat(Math.min(65_000, LARGEST)), port);
  await Bun.sleep(300); // Nobody reads for a while.
  both.process.stdin.write("go\n");
  both.process.stdin.end();
  await both.until("a report", () => both.out.includes("Ignoring"));
  // Like the kernel's for the book's client, its buffer may be full for a moment: the server sends again.
  const stop = flood(() => server.send("the true reply", port), 20);
  const { out } = await both.end();
  stop();
  expect(out).toContain(`The server ('127.0.0.1', ${server.port}) replied 'the true reply'\n`);
});

namespaceTest("Ctrl-C ends a server at once: under a flood, and as process 1 of a container", async (net) => {
  const host = await net.host("host");
  for (const command of ["udp_local.ts server", "udp_remote.ts server 127.0.0.1 --drop 0"]) {
    const init = await serve(command, { prefix: [...host.prefix, "unshare", "-p", "--fork", "--kill-child"] });
    process.kill(-init.process.pid, "SIGINT"); // as a terminal does, to all in the foreground
    expect((await init.end()).status).toBe(130);

    // Into a file: this process would be busy with reading.
    const file = join(tmpdir(), `flood-${crypto.randomUUID()}`);
    const server = new Running([...host.prefix, "sh", "-c", `exec "$0" ${command} -p 0 >${file}`, process.execPath]);
    const printed = () => (existsSync(file) ? readFileSync(file, "latin1") : "");
    const port = Number(await server.until("port", () => /(\d+)\)\n/.exec(printed())?.[1]));
    const actors = [await Actor.create(host), await Actor.create(host)];
    const order = { texts: ["x".repeat(100)], to: { address: "127.0.0.1", port }, count: 300_000 };
    for (const actor of actors) void actor.send(order).catch(() => {}); // It does not get to its end.
    await server.until("flood", () => statSync(file).size > 100_000);
    const begin = performance.now();
    server.kill("SIGINT");
    await server.process.exited;
    expect(performance.now() - begin).toBeLessThan(300);
    for (const actor of actors) actor.process.kill("SIGKILL");
    expect((await server.end()).status).toBe(130);
    rmSync(file);
  }
});

test("a stopped terminal (Ctrl-S) stops a server; Ctrl-Q, Ctrl-C and SIGTERM do what they do", async () => {
  for (const end of ["\x03", "SIGINT", "SIGTERM"] as const) {
    let screen = "";
    const command = [process.execPath, "udp_local.ts", "server", "-p", "0"];
    const server = Bun.spawn(command, {
      cwd: join(import.meta.dir, ".."),
      terminal: { data: (_, data) => (screen += Buffer.from(data).toString()) },
    });
    await using terminal = server.terminal as Bun.Terminal;
    const appears = async (text: string) => {
      const late = performance.now() + PATIENCE;
      while (!screen.includes(text) && performance.now() < late) await Bun.sleep(5);
      expect(screen).toContain(text);
    };
    await appears("\n");
    const port = Number(/(\d+)\)/.exec(screen)?.[1]);
    using peer = await Peer.create();
    terminal.write("\x13");
    while (true) {
      // Once the terminal has understood, a line waits for it, and with it the server.
      peer.send("before", port);
      if ((await peer.receiveWithin(200)) === undefined) break;
    }
    for (let i = 0; i < 5; i++) peer.send(`request ${i}`, port);
    terminal.write("\x11");
    for (let i = 0; i < 6; i++) await peer.receive();
    await appears("'request 4'");
    terminal.write("\x13");
    do peer.send("again", port);
    while ((await peer.receiveWithin(200)) !== undefined);
    const begin = performance.now();
    if (end === "\x03") terminal.write(end);
    else server.kill(end);
    expect(await server.exited).toBe(end === "SIGTERM" ? 143 : 130);
    expect(performance.now() - begin).toBeLessThan(300);
  }
});

describe("both outputs in one pipe, read slowly", () => {
  const COUNT = 5000;
  const program = `import { print, warn } from "./terminal.ts";
    if (process.argv[1] === "nonblocking") {
      const { dlopen } = await import("bun:ffi");
      const { symbols } = dlopen("libc.so.6", { fcntl: { args: ["int", "int", "int"], returns: "int" } });
      symbols.fcntl(1, 4, 0o4000); // F_SETFL, O_NONBLOCK: as a program does that shares the pipe
    }
    for (let i = 0; i < ${COUNT}; i++) { print("out", i, "x".repeat(i % 100)); if (i % 3 === 0) warn("err " + i); }
    print("the end");`;
  for (const how of ["blocking", "nonblocking"]) {
    const other = how === "nonblocking" && process.platform !== "linux";
    const noFlag = other ? "the test knows Linux's O_NONBLOCK only" : "";
    testUnless(noSignals, noFlag)(how, async () => {
      const reader = '{ while read -r line; do echo "$line"; done; }';
      const both = shell(`"$bun" -e '${program}' ${how} 2>&1 | { sleep 0.3; ${reader}; }`);
      const { out, err } = await both.end();
      const expected = Array.from({ length: COUNT }, (_, i) => {
        const line = `out ${i} ${"x".repeat(i % 100)}`.trim();
        return i % 3 === 0 ? [line, `err ${i}`] : [line];
      });
      expect(out.split("\n").map((line) => line.trim())).toEqual([...expected.flat(), "the end", ""]);
      expect(err).toBe("");
    });
  }
});

test("an idle server takes no CPU time", async () => {
  const idle = await serve("udp_local.ts server");
  const ended = await serve("udp_local.ts server");
  await Bun.sleep(1000);
  for (const server of [idle, ended]) server.kill("SIGTERM");
  await idle.end();
  const milliseconds = Number(idle.process.resourceUsage()?.cpuTime.total) / 1000;
  expect(milliseconds).toBeGreaterThan(0);
  expect(milliseconds).toBeLessThan(300); // what its start takes
});

testUnless(noSignals, noFullDisk)("a full disk is said once, also where it fills up later", async () => {
  const server = shell('"$bun" udp_local.ts server -p 0 >/dev/full');
  expect(await server.end()).toMatchObject({
    status: 1,
    err: expect.stringMatching(/^Cannot write the output: ENOSPC.*\n$/),
  });
  const help = await shell('"$bun" udp_local.ts --help >/dev/full').end();
  expect(help).toMatchObject({ status: 1, err: expect.stringMatching(/^Cannot write.*\n$/) });
  expect((await run("udp_local.ts --help")).status).toBe(0);
});
