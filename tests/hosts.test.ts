/** What the chapter says of real networks, on hosts of the test's own. */
import { describe, expect } from "bun:test";
import { type Host, type Network, namespaceTest } from "./network.ts";
import { Peer } from "./peers.ts";
import { type Running, run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const DOWN = "I think the server is down\n";

/** alice 192.168.5.10 ---- 192.168.5.11 bob */
async function twoHosts(network: Network): Promise<[Host, Host]> {
  const [alice, bob] = [await network.host("alice"), await network.host("bob")];
  network.link(
    { host: alice, name: "eth0", address: "192.168.5.10/24" },
    { host: bob, name: "eth0", address: "192.168.5.11/24" },
  );
  return [alice, bob];
}

describe("two machines", () => {
  namespaceTest("the addresses printed are the hosts' own", async (net) => {
    const [alice, bob] = await twoHosts(net);
    for (const where of ["", " 192.168.5.11", " 0.0.0.0"]) {
      const server = await serve(`udp_remote.ts server${where} --drop 0`, bob);
      const listening = where.trim() || "0.0.0.0";
      expect(server.out).toBe(`Listening at ('${listening}', ${server.port})\n`);
      const { status, out } = await run(`udp_remote.ts client 192.168.5.11 -p ${server.port}`, alice);
      expect(status).toBe(0);
      const [, port] = out.match(/^Client socket name is \('192\.168\.5\.10', (\d+)\)\n/) ?? [];
      await server.line(`The client at ('192.168.5.10', ${port}) says 'This is another message'`);
    }
  });

  namespaceTest("a server at 127.0.0.1 is not reached from the other", async (net) => {
    const [alice, bob] = await twoHosts(net);
    const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0", bob);
    const address = `192.168.5.11 -p ${server.port}`;
    expect(await run(`udp_remote.ts client ${address}`, alice)).toMatchObject({
      status: 1,
      err: `Connection refused by ('192.168.5.11', ${server.port}): no server listens there\n`,
    });
    expect((await run(`udp_remote.ts client -p ${server.port}`, bob)).status).toBe(0);
  });

  namespaceTest("a server at one interface is reached only through it", async (net) => {
    const [alice, bob] = await twoHosts(net);
    net.link(
      { host: alice, name: "eth1", address: "10.0.0.10/24" },
      { host: bob, name: "eth1", address: "10.0.0.11/24" },
    );
    const server = await serve("udp_remote.ts server 192.168.5.11 --drop 0", bob);
    const ask = async (host: Host, address: string) =>
      (await run(`udp_remote.ts client ${address} -p ${server.port}`, host)).status;
    expect(await ask(alice, "192.168.5.11")).toBe(0);
    expect(await ask(bob, "192.168.5.11")).toBe(0);
    expect(await ask(alice, "10.0.0.11")).toBe(1);
    expect(await ask(bob, "127.0.0.1")).toBe(1);
  });

  namespaceTest("two servers hold one port at two addresses, and not at one", async (net) => {
    const [alice, bob] = await twoHosts(net);
    const first = start("udp_remote.ts server 127.0.0.1 --drop 0", bob);
    await first.line("Listening at ('127.0.0.1', 1060)");
    const second = start("udp_remote.ts server 192.168.5.11 --drop 0", bob);
    await second.line("Listening at ('192.168.5.11', 1060)");
    expect((await run("udp_remote.ts client 127.0.0.1", bob)).status).toBe(0);
    expect((await run("udp_remote.ts client 192.168.5.11", alice)).status).toBe(0);
    await first.line(/^The client at \('127\.0\.0\.1', /);
    await second.line(/^The client at \('192\.168\.5\.10', /);
    for (const where of ["127.0.0.1", "192.168.5.11", ""]) {
      const { status, err } = await run(`udp_remote.ts server ${where}`, bob);
      const address = `('${where || "0.0.0.0"}', 1060)`;
      expect({ status, err }).toEqual({
        status: 1,
        err: `Address already in use: ${address}, choose another port with -p\n`,
      });
    }
  });
});

describe("a cable pulled", () => {
  /** A client of a server that does not answer until it is resumed, so that the cable is pulled meanwhile. */
  async function waiting(alice: Host, bob: Host) {
    const server = await serve("udp_remote.ts server --drop 0", bob);
    server.kill("SIGSTOP");
    const client = start(`udp_remote.ts client 192.168.5.11 -p ${server.port}`, alice);
    await client.line("Waiting up to 0.1 seconds for a reply");
    return { server, client, begin: performance.now() };
  }

  namespaceTest("at the server and put back: the reply comes", async (net) => {
    const [alice, bob] = await twoHosts(net);
    const { server, client } = await waiting(alice, bob);
    bob.ip("link set eth0 down");
    server.kill("SIGCONT");
    await client.line("Waiting up to 0.8 seconds for a reply");
    bob.ip("link set eth0 up");
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'Your data was 23 bytes long'\n");
  });

  namespaceTest("at the server for good: the server is down", async (net) => {
    const [alice, bob] = await twoHosts(net);
    const { client, begin } = await waiting(alice, bob);
    bob.ip("link set eth0 down");
    const { status, err } = await client.end();
    expect({ status, err }).toEqual({ status: 1, err: DOWN });
    const seconds = (performance.now() - begin) / 1000;
    expect(seconds).toBeGreaterThan(3);
    expect(seconds).toBeLessThan(5);
  });

  namespaceTest("at the client: what the system says ends it, as in Python", async (net) => {
    const [alice, bob] = await twoHosts(net);
    const { server, client } = await waiting(alice, bob);
    alice.ip("link set eth0 down");
    const why = "ENETUNREACH: network is unreachable";
    const err = `Cannot send to ('192.168.5.11', ${server.port}): ${why}\n`;
    expect(await client.end()).toMatchObject({ status: 1, err });
  });

  namespaceTest("no route at all: a clear line", async (net) => {
    const [alice] = await twoHosts(net);
    for (const script of ["udp_remote.ts client", "big_sender.ts", "udp_broadcast.ts client"]) {
      expect(await run(`${script} 10.1.2.3`, alice)).toEqual({
        status: 1,
        out: "",
        err: "Cannot send to ('10.1.2.3', 1060): ENETUNREACH: network is unreachable\n",
      });
    }
  });
});

describe("a bad line", () => {
  const CLIENTS = 200;
  const LOSS = 0.3;

  /** Passes datagrams on between clients and a server: some are lost, some come twice, late, or to the wrong client. */
  class Relay {
    readonly idsOf = new Map<number, Set<string>>();
    #clients: Peer;
    #upstream = new Map<number, Bun.udp.ConnectedSocket<"buffer">>();
    #last: string | undefined;

    constructor(
      clients: Peer,
      readonly server: number,
    ) {
      this.#clients = clients;
    }

    #carry(send: () => void): void {
      for (let copies = Math.random() < 0.1 ? 2 : 1; copies > 0; copies--) {
        if (Math.random() < LOSS) continue;
        setTimeout(send, Math.random() * 30); // which also changes the order
      }
    }

    async run(): Promise<void> {
      for (;;) {
        const request = await this.#clients.receiveWithin(60_000);
        if (request === undefined) return;
        const { text, port } = request;
        this.idsOf.set(port, (this.idsOf.get(port) ?? new Set()).add(text.slice(0, 19)));
        const upstream = this.#upstream.get(port) ?? (await this.#connect(port));
        this.#upstream.set(port, upstream);
        this.#carry(() => upstream.send(text));
      }
    }

    async #connect(port: number) {
      return await Bun.udpSocket({
        connect: { hostname: "127.0.0.1", port: this.server },
        socket: {
          data: (_socket, data) => {
            const reply = data.toString();
            const stray = this.#last;
            this.#last = reply;
            this.#carry(() => this.#clients.send(reply, port));
            if (stray !== undefined) this.#carry(() => this.#clients.send(stray, port));
          },
          error() {},
        },
      });
    }

    close(): void {
      for (const socket of this.#upstream.values()) socket.close();
    }
  }

  test("each client gets its one reply, or says that the server is down, as probability has it", async () => {
    const server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
    using peer = await Peer.create();
    const relay = new Relay(peer, server.port);
    void relay.run();
    const ends: Awaited<ReturnType<Running["end"]>>[] = [];
    const one = async () => {
      while (ends.length + working < CLIENTS) {
        working++;
        const client = start(`udp_remote.ts client -p ${peer.port} --request-id`);
        ends.push(await client.end());
        working--;
      }
    };
    let working = 0;
    await Promise.all(Array.from({ length: 20 }, one));
    relay.close();

    let down = 0;
    for (const { status, out, err } of ends) {
      const [, port] = out.match(/^Client socket name is \('127\.0\.0\.1', (\d+)\)\n/) ?? [];
      const replies = out.match(/(?<=The server says ').*(?=')/g) ?? [];
      if (status === 1) {
        down++;
        expect(replies).toEqual([]);
        expect(err).toEndWith(DOWN);
        expect(out.match(/Waiting/g)).toHaveLength(5);
      } else {
        expect(status).toBe(0);
        expect(replies).toEqual([expect.stringMatching(/^\[.{16}\] Your data was 42 bytes long$/)]);
        // A port may serve one client after another.
        expect(relay.idsOf.get(Number(port))).toContain(replies[0]?.slice(0, 19));
      }
      for (const line of err.replace(DOWN, "").split("\n").slice(0, -1)) {
        expect(line).toMatch(/^Ignoring '\[.*\] Your data was 42 bytes long': it does not repeat/);
      }
    }
    // A request and its reply both arrive with 0.7 * 0.7, a little more often for those sent twice: a client
    // gives up in 2 to 4 cases of 100 and asks 1.8 to 2 times.
    const tries = ends.reduce((sum, { out }) => sum + (out.match(/Waiting/g)?.length ?? 0), 0);
    console.log(`${CLIENTS} clients asked ${tries} times, ${down} found the server down`);
    expect(ends).toHaveLength(CLIENTS);
    expect(down).toBeLessThan(26);
    expect(tries / CLIENTS).toBeGreaterThan(1.4);
    expect(tries / CLIENTS).toBeLessThan(2.6);
  });
});

namespaceTest("a broadcast reaches its subnet and port, and nobody else", async (net) => {
  const names = ["alice", "bob", "carol", "dave"];
  const hosts = await Promise.all(names.map((name) => net.host(name)));
  await net.subnet(hosts.map((host, i) => ({ host, name: "eth0", address: `192.168.5.${i + 1}/24` })));
  const [alice, bob, carol, dave] = hosts as [Host, Host, Host, Host];
  const erin = await net.host("erin");
  net.link({ host: dave, name: "eth1", address: "10.0.0.1/24" }, { host: erin, name: "eth0", address: "10.0.0.2/24" });
  const listening = "Listening for datagrams at ('0.0.0.0', 1060)";
  const servers = [bob, carol, dave, erin].map((host) => start("udp_broadcast.ts server", host));
  for (const server of servers) await server.line(listening);
  const remote = start("udp_remote.ts server --drop 0 -p 1061", bob);
  await remote.line("Listening at ('0.0.0.0', 1061)");

  const says = /^The client at \('192\.168\.5\.1', \d+\) says: 'Broadcast datagram!'$/;
  const [bobs, carols, daves, erins] = servers as [Running, Running, Running, Running];
  alice.ip("route add default via 192.168.5.4"); // or there is no way to 255.255.255.255
  for (const network of ["192.168.5.255", "255.255.255.255", "<broadcast>"]) {
    expect(await run(`udp_broadcast.ts client ${network}`, alice)).toEqual({
      status: 0,
      out: "",
      err: "",
    });
    for (const server of [bobs, carols, daves]) await server.line(says);
  }
  expect(await run("udp_broadcast.ts client", dave)).toEqual({
    status: 0,
    out:
      "Network 192.168.5.0/24, broadcast address 192.168.5.255\n" +
      "Network 10.0.0.0/24, broadcast address 10.0.0.255\n",
    err: "",
  });
  await erins.line(/^The client at \('10\.0\.0\.1', \d+\) says: 'Broadcast datagram!'$/);
  for (const server of [bobs, carols]) await server.line(/^The client at \('192\.168\.5\.4', /);
  // What came to erin before would stand before it; the other port heard nothing.
  expect(erins.out.split("\n")).toHaveLength(3);
  expect(remote.out).toBe("Listening at ('0.0.0.0', 1061)\n");

  const plain = `const sock = await Bun.udpSocket({});
    try { sock.send("x", 1060, "192.168.5.255"); } catch (error) { console.log(error.code); }
    sock.close();`;
  expect((await run(["-e", plain], alice)).out).toBe("EACCES\n");
});
