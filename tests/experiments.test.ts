/** The programs for experiments: hosts on one machine, and a bad network. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { forbidden } from "../experiments/network.ts";
import { skips } from "./support/machine.ts";
import { closedPort, Peer } from "./support/peers.ts";
import { LONG, run, serve, shell, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

describe("hosts.ts", () => {
  test.skipIf(skips(forbidden))("makes three hosts, each with a command that opens a shell there", async () => {
    await using hosts = start("experiments/hosts.ts");
    const prefixes: string[][] = [];
    for (const host of ["alice  192.168.5.10, 172.16.32.1", "bob  192.168.5.11", "carol  172.16.40.1"]) {
      const [, prefix = "", name] = await hosts.line(new RegExp(`^${host}  (nsenter .*) env PS1='(\\w+)\\$ ' .*sh\\b`));
      expect(host).toStartWith(`${name} `);
      prefixes.push(prefix.split(" "));
    }
    const [alice = [], bob = [], carol = []] = prefixes;
    await using server = await serve("udp_remote.ts server --drop 0", { prefix: carol });
    for (const [prefix, address] of [
      [alice, "172.16.40.1"],
      [bob, "172.16.40.1"], // through alice
      [carol, "127.0.0.1"],
    ] as const) {
      expect((await run(`udp_remote.ts client ${address} -p ${server.port}`, { prefix: [...prefix] })).status).toBe(0);
    }
    const path = await run("big_sender.ts 172.16.40.1", { prefix: bob });
    expect(path.out).toEndWith("Actual MTU: 1400\n");
    await server[Symbol.asyncDispose]();

    hosts.kill("SIGINT");
    expect(await hosts.end()).toMatchObject({ status: 130, err: "" });
    const gone = await run("udp_local.ts --help", { prefix: alice });
    expect(gone).toMatchObject({ status: 1, err: expect.stringMatching(/^nsenter: .*No such file/) });
  });

  test("says what is missing, and what brings it", async () => {
    const { status, err } = await run("experiments/hosts.ts", { prefix: ["env", "PATH=/nowhere"] });
    const why = "(only Linux has network namespaces|there is no unshare here, which the package util-linux brings)";
    expect(status).toBe(1);
    expect(err).toMatch(new RegExp(`^No hosts can be made here: ${why}\n$`));
  });
});

describe("bad_network.ts", () => {
  test.each([
    ["-p 1060", "-p and --to are both 1060: the relay would talk to itself"],
    ["--loss 2", "--loss takes a number from 0 to 1, not '2': see --help"],
    ["--delay 5", "--delay takes a number from 0 to 1, not '5': see --help"],
    ["--lose 0.5", "Unknown option '--lose': see --help"],
  ])("%s is wrong usage", async (words, line) => {
    expect(await run(`experiments/bad_network.ts ${words}`)).toEqual({ status: 2, out: "", err: `${line}\n` });
  });

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
      await doubles.until(what, () => doubles.out.includes(`${what} ${way} after 0.`));
      expect((await server.receive()).text).toBe("x\x1b");
    }
    expect(server.received).toEqual([]);
  });

  test("serves many clients that come and go, and a server that is started again", async () => {
    let server = await Peer.create();
    await using relay = await relayTo(server.port, "--loss 0 --duplicate 0 --delay 0");
    for (let i = 0; i < 1200; i++) {
      using client = await Peer.create();
      client.send("hello", relay.port);
      const { port } = await server.receive();
      server.send("reply", port);
      expect((await client.receive()).text).toBe("reply");
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
