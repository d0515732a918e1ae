/** Nothing that arrives, and nobody who leaves, ends a server or costs others their replies. */
import { describe, expect } from "bun:test";
import { namespaceTest } from "./network.ts";
import { Actor, Peer } from "./peers.ts";
import { LARGEST, noSignals, testUnless } from "./platform.ts";
import { memoryOf, noMemory, run, serve, shell, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const SERVERS = ["udp_local.ts server", "udp_remote.ts server 127.0.0.1 --drop 0"];

/** Asks a server something and waits for the reply. */
async function ask(peer: Peer, port: number, text = "good"): Promise<string> {
  peer.send(text, port);
  return (await peer.receive()).text;
}

describe("a client that has left costs nobody else a reply", () => {
  for (const command of SERVERS) {
    test(command, async () => {
      const server = await serve(command);
      using healthy = await Peer.create();
      let answered = 0;
      for (let i = 0; i < 1000; i++) {
        for (let j = 0; j < 6; j++) {
          const leaving = await Bun.udpSocket({ hostname: "127.0.0.1" });
          leaving.send("I am leaving", server.port, "127.0.0.1");
          leaving.close();
        }
        const text = `request ${i}`;
        expect(await ask(healthy, server.port, text)).toBe(`Your data was ${text.length} bytes long`);
        answered++;
      }
      expect({ answered, err: server.err }).toEqual({ answered: 1000, err: "" });
      await server.until("all lines", () => server.out.split("\n").length === 7002);
    });
  }

  test("also where they come in one batch", async () => {
    const server = await serve("udp_local.ts server");
    using healthy = await Peer.create();
    for (let round = 0; round < 20; round++) {
      server.kill("SIGSTOP");
      for (let i = 0; i < 10; i++) {
        healthy.send("healthy", server.port);
        const leaving = await Bun.udpSocket({ hostname: "127.0.0.1" });
        for (let j = 0; j < 6; j++) leaving.send("I am leaving", server.port, "127.0.0.1");
        leaving.close();
      }
      server.kill("SIGCONT");
      for (let i = 0; i < 10; i++) await healthy.receive();
    }
    expect(server.err).toBe("");
  });
});

describe("any datagram", () => {
  const random = (below: number) => Math.floor(Math.random() * below);
  const bytes = Buffer.alloc(2 * LARGEST);
  for (let i = 0; i < bytes.length; i += 65_536) crypto.getRandomValues(bytes.subarray(i, i + 65_536));
  // What a terminal or a parser may stumble over.
  const nasty = ["\x1b[2J", "\x1b]0;title\x07", "\r", "\n", "\0", "\x7f", "'", '"', "\\", "'\"", "x"];
  const text = Array.from({ length: 2 * LARGEST }, () => nasty[random(nasty.length)]).join("");
  const sources = [bytes, bytes.map((byte) => byte & 127), Buffer.from(text, "latin1")];

  function datagram(): Uint8Array {
    const source = sources[random(sources.length)] ?? bytes;
    const start = random(LARGEST);
    // All sizes from 0 to the largest, the small ones more often: it would be gigabytes.
    return source.subarray(start, start + random((LARGEST + 1) ** (Math.random() ** 2)));
  }

  const measured = testUnless(noSignals, noMemory);
  measured.each(SERVERS)("of 100,000 leaves %s as it was", async (command) => {
    // tr and wc count what may not be in the output.
    const server = shell(
      `{ "$bun" ${command} -p 0 & echo "pid $!" >&2; wait; } | ` +
        `{ read -r line; echo "$line"; LC_ALL=C tr -d '\\n -~' | wc -c; }`,
    );
    const pid = Number((await server.until("pid", () => server.err.match(/pid (\d+)/)))[1]);
    const [, port] = await server.line(/^Listening at .* (\d+)\)$/);
    using peer = await Peer.create();
    let before = 0;
    for (let sent = 1; sent <= 100_000; sent++) {
      peer.send(datagram(), Number(port));
      if (sent % 4 > 0) continue;
      // A question now and then, so that none is lost in a full buffer.
      peer.send("So far", Number(port));
      while ((await peer.receive()).text !== "Your data was 6 bytes long");
      if (sent === 20_000) before = await memoryOf(pid);
    }
    const after = await memoryOf(pid);
    console.log(`${command}: ${before.toFixed()} MiB after 20,000, ${after.toFixed()} after all`);
    expect(after).toBeLessThan(before + 32);
    process.kill(pid, "SIGTERM");
    await server.line(/^ *0$/); // BSD's wc pads
  });
});

namespaceTest("no two servers answer each other without end", async (net) => {
  const host = await net.host("host");
  const actor = await Actor.create(host);
  // The book's server in Python answers everything.
  const python = `
    const sock = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0, socket: { error() {},
      data(sock, data, port, address) {
        console.log("said: " + data);
        sock.send("Your data was " + data.length + " bytes long", port, address);
      } } });
    console.log("Listening at ('127.0.0.1', " + sock.port + ")");`;
  const answersAll = start(["-e", python], host);
  const [, port] = await answersAll.line(/^Listening .* (\d+)\)$/);
  const servers = [
    await serve("udp_local.ts server", host),
    await serve("udp_local.ts server", host),
    await serve("udp_remote.ts server 127.0.0.1 --drop 0", host),
    await serve("udp_remote.ts server 127.0.0.1 --drop 0", host),
  ];
  const addressOf = (server: { port: number }) => ({ address: "127.0.0.1", port: server.port });
  let forged = 0;
  for (const server of servers) {
    for (const other of [...servers, { port: Number(port) }]) {
      for (const text of ["hello", "[0123456789abcdef] hello", "Your data was 5 bytes long"]) {
        await actor.send({ texts: [text], to: addressOf(server), from: addressOf(other) });
        forged++;
      }
    }
    // Once it has answered this, it has seen all that came before.
    await actor.send({ texts: ["done"], to: addressOf(server) });
    await actor.receive();
  }
  await run("udp_local.ts --help"); // A loop would go on meanwhile: 57,000 lines in half a second.
  const lines = [...servers, answersAll].map((one) => one.out.split("\n").length - 2);
  console.log(`${forged} forged datagrams made ${lines.join(" + ")} lines`);
  // The forged datagram, the reply to it, and the reply of one that answers everything.
  expect(lines.reduce((sum, count) => sum + count)).toBeLessThanOrEqual(3 * forged + 4);
});

describe("a slow or absent reader", () => {
  /** A server, and a reader that reads a line, and the rest when told. */
  async function unread() {
    const both = shell(
      // In the foreground: what a script starts with & ignores SIGINT.
      `exec 3<&0; { sh -c 'echo "pid $$" >&2; exec "$bun" udp_local.ts server -p 0 3<&-'; echo "status $?" >&2; } | ` +
        '{ read -r line; echo "$line"; read -r go <&3; cat; }',
    );
    const [, port] = await both.line(/^Listening at .* (\d+)\)$/);
    const pid = (await both.until("pid", () => /pid (\d+)/.exec(both.err)))[1];
    const read = () => {
      both.process.stdin.write("go\n");
      both.process.stdin.end();
    };
    return { both, port: Number(port), pid: Number(pid), read };
  }
  const numbers = (out: string) => out.match(/(?<='request )\d+(?=')/g)?.map(Number) ?? [];

  /** Asks until the server, like the book's, waits for its reader; returns how many requests were answered. */
  async function askUntilItWaits(peer: Peer, port: number): Promise<number> {
    for (let i = 0; ; i++) {
      peer.send(`request ${i}`, port);
      if ((await peer.receiveWithin(1000)) === undefined) return i;
    }
  }

  test("stops the server, and costs no line and no reply once somebody reads", async () => {
    const { both, port, pid, read } = await unread();
    using peer = await Peer.create();
    const answered = await askUntilItWaits(peer, port);
    expect(answered).toBeGreaterThan(100); // what a pipe holds
    for (let i = 1; i <= 50; i++) peer.send(`request ${answered + i}`, port);
    read();
    for (let i = 0; i <= 50; i++) await peer.receive();
    await both.until("all lines", () => both.out.includes(`'request ${answered + 50}'\n`));
    expect(numbers(both.out)).toEqual(Array.from({ length: answered + 51 }, (_, i) => i));
    process.kill(pid, "SIGTERM");
    await both.until("end", () => both.err.endsWith("status 143\n"));
  });

  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    test(`does not keep ${signal} from ending the server at once, nor lose what was answered`, async () => {
      const { both, port, pid, read } = await unread();
      using peer = await Peer.create();
      const answered = await askUntilItWaits(peer, port);
      process.kill(pid, signal);
      await both.until("end", () => both.err.endsWith(`\nstatus ${status}\n`));
      read();
      await both.end();
      const all = Array.from({ length: answered }, (_, i) => i);
      expect(numbers(both.out).slice(0, answered)).toEqual(all);
    });
  }

  test("ends the server when it goes", async () => {
    // As `head -3` does, which prints nothing before it ends where its output is no terminal.
    const head = '{ for i in 1 2 3; do read -r line; echo "$line"; done; }';
    const both = shell(`{ "$bun" udp_remote.ts server 127.0.0.1 --drop 0 -p 0; echo "status $?" >&2; } | ${head}`);
    const [, port] = await both.line(/^Listening at .* (\d+)\)$/);
    using peer = await Peer.create();
    for (let i = 0; i < 2; i++) await ask(peer, Number(port));
    // It notices with the next line that it writes, once the reader has really gone.
    await both.until("end", () => {
      if (both.err === "") peer.send("one too many", Number(port));
      return both.err !== "";
    });
    const { status, out, err } = await both.end();
    expect({ status, err }).toEqual({ status: 0, err: "status 0\n" });
    expect(out.split("\n")).toHaveLength(4);
  });
});

test.each(SERVERS)("a %s suspended and resumed answers what the kernel kept", async (command) => {
  const server = await serve(command);
  using peer = await Peer.create();
  server.kill("SIGSTOP");
  for (let i = 0; i < 100; i++) peer.send(`request ${i}`, server.port);
  server.kill("SIGCONT");
  for (let i = 0; i < 100; i++) await peer.receive();
  await server.line(/'request 99'$/);
  const said = Array.from(server.out.matchAll(/'request \d+'/g), String);
  expect(said).toEqual(Array.from({ length: 100 }, (_, i) => `'request ${i}'`));
});
