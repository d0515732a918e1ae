#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-4, for Bun.
 * One UDP datagram to every host of a subnet.
 *
 *     bun udp_broadcast.ts server
 *     bun udp_broadcast.ts client 192.168.5.255
 */
import { networkInterfaces } from "node:os";
import { Failure, main, messageOf, print, repr, warn } from "./terminal.ts";
import { Inbox, resolveHost, subnetOf } from "./udp_helpers.ts";

export async function server(hostname: string, port: number): Promise<void> {
  const inbox = new Inbox();
  const sock = await Bun.udpSocket({ hostname, port, socket: inbox });
  print(`Listening for datagrams at ${repr(sock.address)}`);
  for await (const [data, address] of inbox) {
    const text = data.toString("latin1");
    print(`The client at ${repr(address)} says: ${repr(text)}`);
  }
}

export async function client(network: string, port: number): Promise<void> {
  const sock = await Bun.udpSocket({ hostname: "0.0.0.0", socket: new Inbox() });
  sock.setBroadcast(true);
  const text = "Broadcast datagram!";
  if (network !== "") {
    sock.send(text, port, network);
  } else {
    for (const { prefix, subnet, broadcast } of connectedSubnets()) {
      try {
        sock.send(text, port, broadcast);
        print(`${prefix}network ${subnet}, broadcast address ${broadcast}`);
      } catch (error) {
        const address = repr({ address: broadcast, port });
        warn(`${prefix}cannot send to ${address}: ${messageOf(error)}`);
        process.exitCode = 1;
      }
    }
  }
  sock.close();
}

/** The subnets that this machine is connected to, each once, with the address that reaches all of it. */
function connectedSubnets() {
  const subnets = new Map<string, { prefix: string; subnet: string; broadcast: string }>();
  for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
    const prefix = `${/^[\w.:-]+$/.test(name) ? name : repr(name)}: `;
    for (const { family, internal, cidr } of addresses) {
      if (family !== "IPv4" || internal || cidr === null) continue;
      const { network: subnet, broadcast } = subnetOf(cidr);
      if (broadcast === undefined) continue;
      const other = subnets.get(subnet)?.prefix ?? prefix;
      // Of two interfaces in one subnet the system chooses: none is named.
      subnets.set(subnet, { prefix: other === prefix ? prefix : "", subnet, broadcast });
    }
  }
  if (subnets.size === 0) throw new Failure("Nothing to broadcast to: no subnet is connected");
  return subnets.values();
}

if (import.meta.main) {
  main("Send and receive UDP broadcasts.", {
    server: {
      host: {
        metavar: "INTERFACE",
        type: resolveHost,
        default: "",
        help: "address to listen at (default: every interface)",
      },
      run: ({ host, port }) => server(host, port),
    },
    client: {
      host: {
        metavar: "NETWORK",
        type: resolveHost,
        default: "",
        help: "broadcast address, such as 192.168.5.255 or '<broadcast>' (default: each connected subnet's)",
      },
      run: ({ host, port }) => client(host, port),
    },
  });
}
