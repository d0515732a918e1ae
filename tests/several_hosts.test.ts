/** What the chapter says of real networks: interfaces, cables that are pulled, and neighbours that are not there. */
import { expect, setDefaultTimeout } from "bun:test";
import { threeHosts } from "../experiments/network.ts";
import { networkTest } from "./support/machine.ts";
import { Actor, LOOPBACK } from "./support/peers.ts";
import { LONG, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

networkTest("a server at one address is reached through it only", async (net) => {
  const [alice, bob] = await threeHosts(net);
  net.link([alice, "eth2", "10.0.0.10/24"], [bob, "eth2", "10.0.0.11/24"]);
  await using one = await serve("udp_remote.ts server 192.168.5.11 --drop 0", bob);
  await using local = await serve("udp_remote.ts server 127.0.0.1 --drop 0", bob);
  for (const [host, address, { port }, answered] of [
    [alice, "192.168.5.11", one, true],
    [bob, "192.168.5.11", one, true],
    [alice, "10.0.0.11", one, false],
    [bob, LOOPBACK, one, false],
    [bob, LOOPBACK, local, true],
    [alice, "192.168.5.11", local, false],
  ] as const) {
    const { err } = await run(`udp_remote.ts client ${address} -p ${port}`, host);
    const refused = `Connection refused by ('${address}', ${port}): no server listens there\n`;
    expect(err).toBe(answered ? "" : refused);
  }
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
  expect(await client.done()).toEndWith("\nThe server says 'Your data was 23 bytes long'\n");
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
