/** What the chapter says of real networks: interfaces, cables that are pulled, and a line that loses, doubles and delays. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Host, networkTest, threeHosts } from "./support/network.ts";
import { Actor, closedPort, LOOPBACK } from "./support/peers.ts";
import { LONG, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const DOWN = "I think the server is down\n";

describe("binding to interfaces:", () => {
  networkTest("the addresses printed are the hosts' own", async (net) => {
    const [alice, bob] = await threeHosts(net);
    for (const where of ["", " 192.168.5.11", " 0.0.0.0"]) {
      await using server = await serve(`udp_remote.ts server${where} --drop 0`, bob);
      expect(server.out).toBe(`Listening at ('${where.trim() || "0.0.0.0"}', ${server.port})\n`);
      const { status, out } = await run(`udp_remote.ts client 192.168.5.11 -p ${server.port}`, alice);
      expect(status).toBe(0);
      const [, port] = out.match(/^Client socket name is \('192\.168\.5\.10', (\d+)\)\n/) ?? [];
      await server.line(`The client at ('192.168.5.10', ${port}) says 'This is another message'`);
    }
  });

  networkTest("a server at one address is reached through it only", async (net) => {
    const [alice, bob] = await threeHosts(net);
    net.link([alice, "eth2", "10.0.0.10/24"], [bob, "eth2", "10.0.0.11/24"]);
    const ask = async (host: Host, address: string, port: number) =>
      (await run(`udp_remote.ts client ${address} -p ${port}`, host)).err || "answered";
    const refused = (address: string, port: number) =>
      `Connection refused by ('${address}', ${port}): no server listens there\n`;
    await using one = await serve("udp_remote.ts server 192.168.5.11 --drop 0", bob);
    expect(await ask(alice, "192.168.5.11", one.port)).toBe("answered");
    expect(await ask(bob, "192.168.5.11", one.port)).toBe("answered");
    expect(await ask(alice, "10.0.0.11", one.port)).toBe(refused("10.0.0.11", one.port));
    expect(await ask(bob, LOOPBACK, one.port)).toBe(refused(LOOPBACK, one.port));
    await using local = await serve("udp_remote.ts server 127.0.0.1 --drop 0", bob);
    expect(await ask(bob, LOOPBACK, local.port)).toBe("answered");
    expect(await ask(alice, "192.168.5.11", local.port)).toBe(refused("192.168.5.11", local.port));
  });

  networkTest("two servers hold one port at two addresses, and not at one", async (net) => {
    const [alice, bob] = await threeHosts(net);
    await using first = start("udp_remote.ts server 127.0.0.1 --drop 0", bob);
    await using second = start("udp_remote.ts server 192.168.5.11 --drop 0", bob);
    await first.line("Listening at ('127.0.0.1', 1060)");
    await second.line("Listening at ('192.168.5.11', 1060)");
    expect((await run("udp_remote.ts client 127.0.0.1", bob)).status).toBe(0);
    expect((await run("udp_remote.ts client 192.168.5.11", alice)).status).toBe(0);
    await first.line(/^The client at \('127\.0\.0\.1', /);
    await second.line(/^The client at \('192\.168\.5\.10', /);
    const err = "Address already in use: ('0.0.0.0', 1060), choose another port with -p\n";
    expect(await run("udp_remote.ts server", bob)).toEqual({ status: 1, out: "", err });
  });
});

networkTest("a cable pulled at the server and put back: the reply comes", async (net) => {
  const [alice, bob] = await threeHosts(net);
  await using server = await serve("udp_remote.ts server --drop 0", bob);
  server.kill("SIGSTOP"); // It does not answer until the cable is pulled.
  await using client = start(`udp_remote.ts client 192.168.5.11 -p ${server.port}`, alice);
  await client.line("Waiting up to 0.1 seconds for a reply");
  bob.ip("link set eth0 down");
  server.kill("SIGCONT");
  await client.line("Waiting up to 0.8 seconds for a reply");
  bob.ip("link set eth0 up");
  const { status, out, err } = await client.end();
  expect({ status, err }).toEqual({ status: 0, err: "" });
  expect(out).toEndWith("\nThe server says 'Your data was 23 bytes long'\n");
});

networkTest("a cable pulled at the client: what the system says ends it, as in Python", async (net) => {
  const [alice, bob] = await threeHosts(net);
  await using silent = await serve("udp_broadcast.ts server", bob);
  await using client = start(`udp_remote.ts client 192.168.5.11 -p ${silent.port}`, alice);
  await client.line("Waiting up to 0.1 seconds for a reply");
  alice.ip("link set eth0 down");
  const err = `Cannot send to ('192.168.5.11', ${silent.port}): ENETUNREACH: network is unreachable\n`;
  expect(await client.end()).toMatchObject({ status: 1, err });
});

networkTest("replies to absent neighbours fill the send buffer, and cost nobody a reply", async (net) => {
  const [alice, bob] = await threeHosts(net);
  await using server = await serve("udp_remote.ts server --drop 0", bob);
  await using actor = await Actor.create(alice);
  const to = { address: "192.168.5.11", port: server.port };
  for (let i = 0; i < 400; i++) {
    const from = { address: `192.168.5.${20 + (i % 200)}`, port: 1000 + i };
    await actor.send({ texts: [`gone ${i}`], to, from });
    // Some 260 replies fill the buffer, until the system gives up looking for the neighbours, after some 3 s.
    if (i % 50 === 49) await server.until("line", () => server.out.includes(`'gone ${i}'`));
  }
  const once = `
    import { udpSocket } from "./udp_socket.ts";
    using sock = await udpSocket({ connect: { hostname: "192.168.5.11", port: ${server.port} } });
    sock.send("good");
    console.log(String(await sock.receive(10)));`;
  expect((await run(["-e", once], alice)).out).toStartWith("Your data was 4 bytes long");
  expect(server.err).toBe("");
});

test("on a bad line each client gets its one reply, or says that the server is down, as probability has it", async () => {
  const CLIENTS = 100;
  await using server = await serve("udp_remote.ts server 127.0.0.1 --drop 0");
  const port = await closedPort();
  await using relay = start(`experiments/bad_network.ts -p ${port} --to ${server.port} --delay 0.03`);
  await relay.line(/^Relaying from /);
  const ends: Awaited<ReturnType<typeof run>>[] = [];
  const some = async () => {
    for (let i = 0; i < CLIENTS / 20; i++) ends.push(await run(`udp_remote.ts client -p ${port} --request-id`));
  };
  await Promise.all(Array.from({ length: 20 }, some));
  let tries = 0;
  for (const { status, out, err } of ends) {
    tries += out.match(/Waiting/g)?.length ?? 0;
    const replies = out.match(/(?<=The server says ')\[.{16}\] Your data was 42 bytes long(?='\n$)/g) ?? [];
    expect({ replies: replies.length, err }).toEqual(
      status === 0 ? { replies: 1, err: "" } : { replies: 0, err: DOWN },
    );
  }
  // A request and its reply both arrive with 0.7 * 0.7, a little more often for those sent twice: a client gives up in 2
  // to 4 cases of 100 and asks 1.8 to 2 times.
  const down = ends.filter(({ status }) => status !== 0).length;
  console.log(`${CLIENTS} clients asked ${tries} times, ${down} found the server down`);
  expect(down).toBeLessThan(16);
  expect(tries / CLIENTS).toBeWithin(1.3, 2.7);
});
