/** What goes wrong is said once, in one true line, and stops nothing else. */
import { afterAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namespaceTest, threeHosts } from "./network.ts";
import { Actor, closedPort } from "./peers.ts";
import { Running, run, serve, shell, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const TOP = join(import.meta.dir, "..");
const failed = (err: string) => ({ status: 1, out: "", err: `${err}\n` });

describe("broadcast to each subnet", () => {
  const SAYS = /^The client at \('[\d.]+', \d+\) says: 'Broadcast datagram!'$/;

  namespaceTest("reaches the others where one fails, and says which failed", async (net) => {
    const [alice, bob, carol] = await threeHosts(net);
    const server = start("udp_broadcast.ts server", bob);
    const others = start("udp_broadcast.ts server", carol);
    for (const one of [server, others]) await one.line(/^Listening/);
    alice.ip("route del broadcast 192.168.5.255 dev eth0 table local");
    const routes: [route: string, err: string][] = [
      [
        "prohibit",
        "Permission denied to send to ('192.168.5.255', 1060): a broadcast needs sock.setBroadcast(true), or a route forbids it\n",
      ],
      ["unreachable", "Cannot send to ('192.168.5.255', 1060): EHOSTUNREACH: host is unreachable\n"],
      ["blackhole", "Cannot send to ('192.168.5.255', 1060): EINVAL: invalid argument\n"],
    ];
    for (const [route, err] of routes) {
      alice.ip(`route add ${route} 192.168.5.255`);
      const out = "Network 172.16.32.0/20, broadcast address 172.16.47.255\n";
      expect(await run("udp_broadcast.ts client", alice)).toEqual({ status: 1, out, err });
      await others.line(SAYS);
      alice.ip(`route del ${route} 192.168.5.255`);
    }
    expect(server.out).toBe("Listening for datagrams at ('0.0.0.0', 1060)\n");
  });
});

test("a server whose output nobody reads any more ends", async () => {
  const gone = `{ sleep 0.1; "$bun" udp_remote.ts server -p 0; echo "status $?" >&2; } | true`;
  expect((await shell(gone).end()).err).toBe("status 0\n");
});

describe("text from the command line is escaped, in one line:", () => {
  const cases: [words: string[], status: number, line: string][] = [
    [["client", "a\x1b[2Jb"], 1, "Unknown host 'a\\x1b[2Jb': ENOTFOUND"],
    [["client", "a\nb"], 1, "Unknown host 'a\\nb': ENOTFOUND"],
    [["client", "--\x1b[2J"], 2, "Unknown option '--\\x1b[2J': see --help"],
    [["client", "--a\nb"], 2, "Unknown option '--a\\nb': see --help"],
    [["client", "--a. b"], 2, "Unknown option '--a. b': see --help"],
    [["client", "--it's"], 2, `Unknown option '--it's': see --help`],
    [["client", "-\x1b"], 2, "Unknown option '-\\x1b': see --help"],
    [["client", "--request-id=\x1b"], 2, "Option '--request-id' does not take an argument: see --help"],
    [["\x1b\n"], 2, "Give a role, server or client: see --help"],
    [["client", "a", "\x1b\n"], 2, "Unexpected argument '\\x1b\\n': see --help"],
    [["client", "-p", "\x1b\n"], 2, "-p takes a number from 1 to 65535, not '\\x1b\\n': see --help"],
    [["server", "--drop", "\n"], 2, "--drop takes a number from 0 to 1, not '\\n': see --help"],
    [["client", "é:1"], 1, "Unknown host '\\xe9:1': ENOTFOUND (a port is given with -p)"],
  ];
  for (const [words, status, line] of cases) {
    test(JSON.stringify(words), async () => {
      const result = await run(["udp_remote.ts", ...words]);
      // Where no resolver is asked, another one may say why.
      expect({
        ...result,
        err: result.err.replace(/(?<=^Unknown host .*': )\w+/, "ENOTFOUND"),
      }).toEqual({
        status,
        out: "",
        err: `${line}\n`,
      });
    });
  }
});

test("a host with a port is told from an IPv6 address", async () => {
  for (const host of ["localhost:1060", "127.0.0.1:1060", "http://127.0.0.1", "::1:x", ":"]) {
    const { status, out, err } = await run(`udp_remote.ts client ${host}`);
    expect({ status, out }).toEqual({ status: 1, out: "" });
    expect(err).toMatch(/^Unknown host '.*': \w+ \(a port is given with -p\)\n$/);
  }
  for (const host of ["::1", "fe80::1%eth0", "::ffff:127.0.0.1"]) {
    const why = "looks like an IPv6 address: the listings speak IPv4";
    expect(await run(`udp_remote.ts client ${host}`)).toEqual(failed(`'${host}' ${why}`));
  }
});

namespaceTest("a resolver that does not answer is asked once", async (net) => {
  const host = await net.host("host");
  const resolver = `
    let asked = 0;
    await Bun.udpSocket({ hostname: "127.0.0.1", port: 53, socket: { data(_, data) {
      console.log("asked", data.toString("latin1", 13, 13 + data[12]));
    }, error() {} } });
    console.log("ready");`;
  const dns = start(["-e", resolver], host);
  await dns.line("ready");
  const hosts = `
    d=$(mktemp -d) && printf 'nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n' >$d/resolv.conf &&
    printf 'hosts: dns\\n' >$d/nsswitch.conf &&
    mount --bind $d/resolv.conf /etc/resolv.conf && mount --bind $d/nsswitch.conf /etc/nsswitch.conf && rm -r $d; exec "$@"`;
  const place = { prefix: [...host.prefix, "unshare", "-m", "sh", "-c", hosts, "sh"] };
  const { status, err } = await run("udp_remote.ts client silent.example", place);
  expect(status).toBe(1);
  expect(err).toMatch(/^Unknown host 'silent\.example': .*\n$/);
  expect(dns.out).toBe("ready\nasked silent\n");
});

describe("an error is blamed on what it is:", () => {
  namespaceTest("no port is free", async (net) => {
    const host = await net.host("host");
    host.sh("echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range");
    const taken = await serve("udp_remote.ts server", host);
    expect(taken.port).toBe(40_000);
    const free = (address: string) => failed(`No port is free at ('${address}', 0)`);
    expect(await run("udp_local.ts client", host)).toEqual(free("0.0.0.0"));
    expect(await run("udp_remote.ts client", host)).toEqual(free("0.0.0.0"));
    expect(await run("udp_broadcast.ts client 127.255.255.255", host)).toEqual(free("0.0.0.0"));
    expect(await run("udp_remote.ts server 127.0.0.1 -p 0", host)).toEqual(free("127.0.0.1"));
  });

  namespaceTest("a route that prohibits, swallows, or is not there", async (net) => {
    const host = await net.host("host");
    const routes: Record<string, string> = {
      "20.0.0.1":
        "Permission denied to send to ('20.0.0.1', 1060): a broadcast needs sock.setBroadcast(true), or a route forbids it",
      "21.0.0.1": "Cannot send to ('21.0.0.1', 1060): EINVAL: invalid argument",
      "22.0.0.1": "Cannot send to ('22.0.0.1', 1060): EHOSTUNREACH: host is unreachable",
      "23.0.0.1": "Cannot send to ('23.0.0.1', 1060): ENETUNREACH: network is unreachable",
    };
    host.ip("route add prohibit 20.0.0.0/8");
    host.ip("route add blackhole 21.0.0.0/8");
    host.ip("route add unreachable 22.0.0.0/8");
    for (const [address, line] of Object.entries(routes)) {
      for (const script of ["udp_remote.ts client", "big_sender.ts", "udp_broadcast.ts client"]) {
        const { status, out, err } = await run(`${script} ${address}`, host);
        expect({ status, out }).toEqual({ status: 1, out: "" });
        expect(err).toBe(`${line}\n`);
      }
    }
  });
});

namespaceTest("a route that prohibits ends a client that waits, a pulled cable does not", async (net) => {
  const [alice, bob] = await threeHosts(net);
  const silent = start("udp_broadcast.ts server", bob);
  await silent.line(/^Listening/);
  const client = start("udp_remote.ts client 192.168.5.11", alice);
  await client.line(/^Waiting up to 0\.1/);
  alice.ip("rule add to 192.168.5.11 prohibit");
  const { status, err } = await client.end();
  expect(status).toBe(1);
  expect(err).toMatch(/^Permission denied to send to \('192\.168\.5\.11', 1060\): .*a route forbids it\n$/);
});

namespaceTest(
  "replies to neighbours that are switched off fill the send buffer, and cost nobody a reply",
  async (net) => {
    const [alice, bob] = await threeHosts(net);
    const server = await serve("udp_remote.ts server --drop 0", bob);
    const to = { address: "192.168.5.11", port: server.port };
    const actor = await Actor.create(alice);
    for (let i = 0; i < 400; i++) {
      const from = { address: `192.168.5.${20 + (i % 200)}`, port: 1000 + i };
      await actor.send({ texts: [`gone ${i}`], to, from });
      // Some 260 replies fill the buffer, until the system gives up looking for the neighbours, after some 3 s.
      if (i % 50 === 49) await server.until("line", () => server.out.includes(`'gone ${i}'`));
    }
    const client = await run(`udp_remote.ts client 192.168.5.11 -p ${server.port}`, alice);
    expect(client).toMatchObject({ status: 0, err: "" });
    expect(server.err).toBe("");
  },
);

describe("the same lines come from", () => {
  const folder = mkdtempSync(join(tmpdir(), "binary-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  async function expectTheSame(command: string[], env: string[] = []): Promise<void> {
    const of = async (words: string) => {
      const theirs = await new Running([...env, ...command, ...words.split(" ")]).end();
      const ours = await run(`udp_remote.ts ${words}`);
      const plain = ({ status, out, err }: typeof ours) => ({
        status,
        err,
        out: out.replace(/\d+\)/g, "…)"),
      });
      expect(plain(theirs)).toEqual(plain(ours));
      return ours;
    };
    expect((await of("peer")).status).toBe(2);
    expect((await of(`client -p ${await closedPort()}`)).status).toBe(1);
    expect((await of("client localhost:1060")).status).toBe(1);
    const server = new Running([...env, ...command, "server", "127.0.0.1", "--drop", "0", "-p", "0"]);
    const [, port] = await server.line(/^Listening at \('127\.0\.0\.1', (\d+)\)$/);
    expect((await of(`client -p ${port}`)).status).toBe(0);
    server.kill("SIGINT");
    expect(await server.end()).toMatchObject({ status: 130, err: "" });
  }

  test("a compiled binary, away from the project", async () => {
    const binary = join(folder, "udp_remote");
    const build = ["build", "--compile", join(TOP, "udp_remote.ts"), "--outfile", binary];
    expect((await run(build)).status).toBe(0);
    await expectTheSame([binary]);
  });

  test("a link on the PATH, in another folder", async () => {
    symlinkSync(join(TOP, "udp_remote.ts"), join(folder, "linked"));
    symlinkSync(process.execPath, join(folder, "bun"));
    const there = ["sh", "-c", 'cd "$0" && exec "$@"', folder]; // not every env has -C
    await expectTheSame(["linked"], ["env", `PATH=${folder}:${process.env.PATH}`, ...there]);
  });
});
