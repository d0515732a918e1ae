#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-4, for Bun.
 * One UDP datagram to every host of a subnet.
 *
 *     bun udp_broadcast.ts server
 *     bun udp_broadcast.ts client 192.168.5.255
 */
import { networkInterfaces } from "node:os";
import {
  decodeAscii,
  formatAddress,
  guarded,
  main,
  print,
  quote,
  resolveHost,
  subnetOf,
} from "./udp_helpers.ts";

const USAGE = `usage: udp_broadcast.ts server [INTERFACE] [-p PORT]
       udp_broadcast.ts client [NETWORK] [-p PORT]

Send and receive UDP broadcasts.

  INTERFACE        address that the server listens at (default: every interface)
  NETWORK          broadcast address, such as 192.168.5.255 or '<broadcast>' (default: each connected subnet's)
  -p, --port PORT  UDP port (default 1060; 0 lets the system choose the server's)
  -h, --help       print this and exit`;

export async function server(hostname: string, port: number): Promise<void> {
  const sock = await Bun.udpSocket({
    hostname: await resolveHost(hostname),
    port,
    socket: guarded({
      data(_sock, data, port, address) {
        const text = decodeAscii(data);
        print(`The client at ${formatAddress({ address, port })} says: ${quote(text)}`);
      },
    }),
  });
  print(`Listening for datagrams at ${formatAddress(sock.address)}`);
}

export async function client(network: string, port: number): Promise<void> {
  const sock = await Bun.udpSocket({ hostname: "0.0.0.0", socket: guarded() });
  sock.setBroadcast(true);
  const text = "Broadcast datagram!";
  if (network !== "") {
    sock.send(text, port, await resolveHost(network));
  } else {
    for (const { name, network, broadcast } of connectedSubnets()) {
      print(`${name}: network ${network}, broadcast address ${broadcast}`);
      sock.send(text, port, broadcast);
    }
  }
  sock.close();
}

/** The subnets that this machine is connected to, each once, with the address that reaches all of it. */
function connectedSubnets() {
  const subnets = new Map<string, { name: string; network: string; broadcast: string }>();
  for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
    for (const { family, internal, cidr } of addresses) {
      if (family !== "IPv4" || internal || cidr === null) continue;
      const { network, broadcast } = subnetOf(cidr);
      if (broadcast !== undefined) subnets.set(network, { name, network, broadcast });
    }
  }
  if (subnets.size === 0) throw new Error("Nothing to broadcast to: no subnet is connected");
  return subnets.values();
}

if (import.meta.main) {
  await main(USAGE, {
    server: { argument: "[INTERFACE]", host: "", run: ({ host, port }) => server(host, port) },
    client: { argument: "[NETWORK]", host: "", run: ({ host, port }) => client(host, port) },
  });
}
