/** Listing 2-4: one datagram reaches every host of a subnet, and the subnets are found. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { type End, type Host, type Network, threeHosts } from "../experiments/network.ts";
import { networkTest, notLinux, skips } from "./support/machine.ts";
import { Peer } from "./support/peers.ts";
import { LONG, type Running, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const quiet = { status: 0, out: "", err: "" };
const SAYS = /^The client at \('([\d.]+)', \d+\) says: 'Broadcast datagram!'$/;
const LISTENING = "Listening for datagrams at ('0.0.0.0', 1060)";
const ALICES = ["192.168.5.0/24, broadcast address 192.168.5.255", "172.16.32.0/20, broadcast address 172.16.47.255"];

/** A server on each host that listens when this is over. */
async function serveOn(hosts: Host[], net: Network): Promise<Running[]> {
  const servers = hosts.map((host) => net.use(start("udp_broadcast.ts server", host)));
  for (const server of servers) await server.line(LISTENING);
  return servers;
}

test("the server prints what comes, and never answers", async () => {
  await using server = await serve("udp_broadcast.ts server");
  expect(server.out).toBe(`Listening for datagrams at ('0.0.0.0', ${server.port})\n`);
  using peer = await Peer.create();
  const client = `The client at ('127.0.0.1', ${peer.port}) says:`;
  peer.send("Hello\r", server.port);
  peer.send(new Uint8Array([255]), server.port);
  peer.send("Your data was 5 bytes long", server.port);
  for (const text of ["Hello\\r", "\\xff", "Your data was 5 bytes long"]) await server.line(`${client} '${text}'`);
  expect({ err: server.err, received: peer.received }).toEqual({ err: "", received: [] });
});

test.skipIf(skips(notLinux))("a system that does not tell its interfaces is said in one line", async () => {
  const place = { options: ["--preload", "./tests/support/no_netlink.ts"] };
  const err = "The system does not tell its interfaces\n";
  expect(await run("udp_broadcast.ts client", place)).toEqual({ status: 1, out: "", err });
});

networkTest("a client without an address reaches each connected subnet, once", async (net) => {
  const err = "Nothing to broadcast to: no subnet is connected\n";
  expect(await run("udp_broadcast.ts client", await net.host("lonely"))).toEqual({ status: 1, out: "", err });

  const [alice, bob, carol] = await threeHosts(net);
  alice.ip("addr add 192.168.5.20/24 dev eth0"); // a second address in one subnet
  alice.ip("addr add 198.51.100.1/32 dev eth1"); // a subnet of one address
  const servers = await serveOn([bob, carol], net);
  const out = ALICES.map((network) => `Network ${network}\n`).join("");
  expect(await run("udp_broadcast.ts client", alice)).toEqual({ status: 0, out, err: "" });
  const from = await Promise.all(servers.map(async (server) => (await server.line(SAYS))[1]));
  expect(from).toEqual(["192.168.5.10", "172.16.32.1"]);
});

networkTest("where one subnet fails, it reaches the others, and says which failed", async (net) => {
  const [alice, bob, carol] = await threeHosts(net);
  const [bobs, carols] = (await serveOn([bob, carol], net)) as [Running, Running];
  alice.ip("route del broadcast 192.168.5.255 dev eth0 table local");
  alice.ip("route add unreachable 192.168.5.255");
  const err = "Cannot send to ('192.168.5.255', 1060): EHOSTUNREACH: host is unreachable\n";
  expect(await run("udp_broadcast.ts client", alice)).toEqual({ status: 1, out: `Network ${ALICES[1]}\n`, err });
  await carols.line(SAYS);
  expect(bobs.out).toBe(`${LISTENING}\n`);
});

networkTest("a broadcast reaches its subnet and port, and nobody else", async (net) => {
  const names = ["alice", "bob", "carol", "dave", "erin"];
  const hosts = (await Promise.all(names.map((name) => net.host(name)))) as [Host, Host, Host, Host, Host];
  const [alice, bob, carol, dave, erin] = hosts;
  await net.subnet(hosts.slice(0, 4).map((host, i): End => [host, "eth0", `192.168.5.${i + 1}/24`]));
  net.link([dave, "eth1", "10.0.0.1/24"], [erin, "eth0", "10.0.0.2/24"]);
  const servers = await serveOn([bob, carol, dave, erin], net);
  const [, , , erins] = servers as [Running, Running, Running, Running];
  const remote = net.use(start("udp_remote.ts server --drop 0 -p 1061", bob));
  await remote.line("Listening at ('0.0.0.0', 1061)");

  alice.ip("route add default via 192.168.5.4"); // or there is no way to 255.255.255.255
  for (const network of ["192.168.5.255", "255.255.255.255", "<broadcast>"]) {
    expect(await run(`udp_broadcast.ts client ${network}`, alice)).toEqual(quiet);
    for (const server of servers.slice(0, 3)) expect((await server.line(SAYS))[1]).toBe("192.168.5.1");
  }
  // What came to erin before would stand before this; the other port heard nothing.
  expect(await run("udp_broadcast.ts client", dave)).toMatchObject({ status: 0, err: "" });
  expect((await erins.line(SAYS))[1]).toBe("10.0.0.1");
  expect(erins.out.split("\n")).toHaveLength(3);
  expect(remote.out).toBe("Listening at ('0.0.0.0', 1061)\n");
});
