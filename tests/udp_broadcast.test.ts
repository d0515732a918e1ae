import { expect } from "bun:test";
import { namespaceTest, threeHosts } from "./network.ts";
import { Peer } from "./peers.ts";
import { noSignals, testUnless } from "./platform.ts";
import { run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const quiet = { status: 0, out: "", err: "" };

test("the server prints what comes, and never answers", async () => {
  const server = await serve("udp_broadcast.ts server");
  expect(server.out).toBe(`Listening for datagrams at ('0.0.0.0', ${server.port})\n`);
  using peer = await Peer.create();
  peer.send("Hello\r", server.port);
  peer.send(new Uint8Array([255]), server.port);
  peer.send("Your data was 5 bytes long", server.port);
  const client = `('127.0.0.1', ${peer.port})`;
  await server.line(`The client at ${client} says: 'Hello\\r'`);
  await server.line(`The client at ${client} says: '\\xff'`);
  await server.line(`The client at ${client} says: 'Your data was 5 bytes long'`);
  expect({ err: server.err, received: peer.received }).toEqual({ err: "", received: [] });
});

const broadcasting = process.platform === "linux" ? "" : "only Linux broadcasts on the loopback interface";

testUnless(noSignals, broadcasting)("a client with an address is silent", async () => {
  const server = await serve("udp_broadcast.ts server 127.255.255.255");
  expect(await run(`udp_broadcast.ts client 127.255.255.255 -p ${server.port}`)).toEqual(quiet);
  await server.line(/^The client at \('127\.0\.0\.1', \d+\) says: 'Broadcast datagram!'$/);
});

testUnless(noSignals, broadcasting)("a system that does not tell its interfaces is said in one line", async () => {
  const place = { prefix: [], options: ["--preload", "./tests/no_netlink.ts"] };
  const err = "The system does not tell its interfaces\n";
  expect(await run("udp_broadcast.ts client", place)).toEqual({ status: 1, out: "", err });
});

namespaceTest("a client without an address reaches each connected subnet", async (net) => {
  expect(await run("udp_broadcast.ts client", await net.host("lonely"))).toEqual({
    status: 1,
    out: "",
    err: "Nothing to broadcast to: no subnet is connected\n",
  });

  const [alice, bob, carol] = await threeHosts(net);
  alice.ip("addr add 192.168.5.20/24 dev eth0"); // a second address in one subnet
  alice.ip("addr add 198.51.100.1/32 dev eth1"); // a subnet of one address
  const servers = [start("udp_broadcast.ts server", bob), start("udp_broadcast.ts server", carol)];
  for (const server of servers) await server.line("Listening for datagrams at ('0.0.0.0', 1060)");
  expect(await run("udp_broadcast.ts client", alice)).toEqual({
    status: 0,
    out:
      "Network 192.168.5.0/24, broadcast address 192.168.5.255\n" +
      "Network 172.16.32.0/20, broadcast address 172.16.47.255\n",
    err: "",
  });
  const says = /^The client at \('([\d.]+)', \d+\) says: 'Broadcast datagram!'$/;
  const from = await Promise.all(servers.map(async (server) => (await server.line(says))[1]));
  expect(from).toEqual(["192.168.5.10", "172.16.32.1"]);

  expect(await run("udp_broadcast.ts client 10.1.1.255", alice)).toEqual({
    status: 1,
    out: "",
    err: "Cannot send to ('10.1.1.255', 1060): ENETUNREACH: network is unreachable\n",
  });
});
