/** The programs for experiments: hosts on one machine, and a bad network. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { forbidden } from "../experiments/network.ts";
import { networkTest, skips } from "./support/machine.ts";
import { Actor, closedPort, Peer } from "./support/peers.ts";
import { LONG, run, shell, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

test.skipIf(skips(forbidden))(
  "hosts.ts says how to open a shell on each host, and takes them away when it ends",
  async () => {
    await using hosts = start("experiments/hosts.ts");
    const [, prefix = ""] = await hosts.line(/^carol {2}172\.16\.40\.1 {2}(nsenter .*) env PS1='carol\$ ' .*sh\b/);
    const carol = { prefix: prefix.split(" ") };
    expect(await run("udp_local.ts --help", carol)).toMatchObject({ status: 0, err: "" });
    hosts.kill("SIGINT");
    expect(await hosts.end()).toMatchObject({ status: 130, err: "" });
    const err = expect.stringMatching(/^nsenter: .*No such file/);
    expect(await run("udp_local.ts --help", carol)).toMatchObject({ status: 1, err });
  },
);

test("hosts.ts says what is missing, and what brings it", async () => {
  const { status, err } = await run("experiments/hosts.ts", { prefix: ["env", "PATH=/nowhere"] });
  const why = "(only Linux has network namespaces|there is no unshare here, which the package util-linux brings)";
  expect(status).toBe(1);
  expect(err).toMatch(new RegExp(`^No hosts can be made here: ${why}\n$`));
});

networkTest("an experiment whose port is in use says so, and say.ts what it cannot send", async (net) => {
  const host = await net.host("host");
  await using taken = start("udp_local.ts server -p 1060", host);
  await taken.line(/^Listening/);
  const failed = (line: string) => ({ status: 1, out: "", err: `${line}\n` });
  for (const script of ["stranger.ts", "late_reply.ts", "flood.ts"]) {
    const used = failed("Address already in use: ('127.0.0.1', 1060)");
    expect(await run(`experiments/${script}`, host)).toEqual(used);
  }
  const long = ["experiments/say.ts", "x".repeat(70_000)];
  expect(await run(long, host)).toEqual(failed("No datagram holds 70000 bytes"));
  const refused = failed("Connection refused by ('127.0.0.1', 1070): no server listens there");
  expect(await run("experiments/say.ts -p 1070 hello", host)).toEqual(refused);
});

test.each([
  ["say.ts", "usage: say.ts [-p PORT] TEXT..."],
  ["say.ts -p 1060", "usage: say.ts [-p PORT] TEXT..."],
  ["say.ts -p x hello", "-p takes a whole number from 1 to 65535, not 'x': see --help"],
  ["gone.ts", "usage: gone.ts SCRIPT [ARGUMENT]..."],
  ["bad_network.ts -p 1060", "-p and --to are both 1060: the relay would talk to itself"],
  ["bad_network.ts --loss 2", "--loss takes a number from 0 to 1, not '2': see --help"],
  ["bad_network.ts --delay 5", "--delay takes a number from 0 to 1, not '5': see --help"],
  ["bad_network.ts --lose 0.5", "Unknown option '--lose': see --help"],
])("%s is wrong usage", async (command, line) => {
  expect(await run(`experiments/${command}`)).toEqual({ status: 2, out: "", err: `${line}\n` });
});

networkTest("monitor.ts takes packets that are no datagrams, and says who may not look", async (net) => {
  const host = await net.host("host");
  const nobody = { prefix: [...host.prefix, "unshare", "-U"] };
  const err = "Only root may see what is for others: try it on a host of hosts.ts\n";
  expect(await run("experiments/monitor.ts", nobody)).toEqual({ status: 1, out: "", err });
  await using monitor = start("experiments/monitor.ts", host);
  await monitor.line(/^Looking/);
  await using actor = await Actor.create(host);
  const [from, to] = [{ address: "10.9.9.9", port: 5 }, actor.address];
  await actor.send({ errors: [[3, 1]], to, from });
  host.ip("link set lo mtu 1500");
  await actor.send({ texts: ["x".repeat(4000)], to }); // in three fragments, of which only one has the ports
  await actor.send({ texts: ["\x1b"], to, from });
  await monitor.line(`('10.9.9.9', 5) to ('127.0.0.1', ${to.port}): '\\x1b'`);
  const lines = monitor.out.split("\n");
  expect(lines[1]).toStartWith(`('127.0.0.1', ${to.port}) to ('127.0.0.1', ${to.port}): 'xxx`);
  expect(lines).toHaveLength(4);
});

describe("bad_network.ts", () => {
  /** A relay that does to each datagram what the options say. */
  async function relayTo(server: number, options: string) {
    const port = await closedPort();
    // With few open files: one that grows without bound ends.
    const relay = shell(`ulimit -n 400; exec "$bun" experiments/bad_network.ts -p ${port} --to ${server} ${options}`);
    await relay.line(`Relaying from ('127.0.0.1', ${port}) to ('127.0.0.1', ${server})`);
    return Object.assign(relay, { port });
  }

  test("loses all, doubles all, and says what became of each", async () => {
    using server = await Peer.create();
    using client = await Peer.create();
    const way = `('127.0.0.1', ${client.port}) to the server: 'x\\x1b'`;
    await using loses = await relayTo(server.port, "--loss 1");
    client.send("x\x1b", loses.port);
    await loses.line(`lost     ${way}`);
    await using doubles = await relayTo(server.port, "--loss 0 --duplicate 1 --delay 0.1");
    client.send("x\x1b", doubles.port);
    for (const what of ["passed  ", "doubled "]) {
      await doubles.until(what, () => doubles.out.includes(`${what} ${way}`));
      expect((await server.receive()).text).toBe("x\x1b");
    }
    expect(server.received).toEqual([]);
  });

  test("delays each for some time, so that some overtake others", async () => {
    using server = await Peer.create();
    using client = await Peer.create();
    await using relay = await relayTo(server.port, "--loss 0 --duplicate 0");
    const sent = Array.from({ length: 20 }, (_, i) => String(i));
    for (const text of sent) client.send(text, relay.port);
    const received: string[] = [];
    for (const _ of sent) received.push((await server.receive()).text);
    expect(received).not.toEqual(sent);
    expect(new Set(received)).toEqual(new Set(sent));
    expect(new Set(relay.out.match(/(?<=after )0\.[01]\d(?= s\n)/g)).size).toBeGreaterThan(5);
  });

  test("serves many clients that come and go, and a server that is started again", async () => {
    let server = await Peer.create();
    await using relay = await relayTo(server.port, "--loss 0 --duplicate 0 --delay 0");
    /** Asks, and returns the port that the relay has for a client. */
    const portOf = async (client: Peer) => {
      client.send("hello", relay.port);
      const { port } = await server.receive();
      server.send("reply", port);
      expect((await client.receive()).text).toBe("reply");
      return port;
    };
    using regular = await Peer.create();
    const first = await portOf(regular);
    for (let i = 0; i < 1200; i++) {
      using client = await Peer.create();
      await portOf(client);
      if (i % 100 === 0) expect(await portOf(regular)).toBe(first);
      if (i !== 600) continue;
      const again = server.port;
      server[Symbol.dispose]();
      client.send("lost", relay.port);
      await relay.until("line", () => relay.out.includes("'lost' after"));
      server = await Peer.create("127.0.0.1", again);
    }
    server[Symbol.dispose]();
    expect(relay.err).toBe("");
  });
});
