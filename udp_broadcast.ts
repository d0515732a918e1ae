#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-4, for Bun.
 * One UDP datagram to every host of a subnet.
 */
import { Failure, main, print, report, repr } from "./terminal.ts";
import { connectedSubnets } from "./udp_helpers.ts";
import { resolveHost, udpSocket } from "./udp_socket.ts";

export async function server(hostname: string, port: number): Promise<void> {
  using sock = await udpSocket({ hostname, port });
  print(`Listening for datagrams at ${sock.address}`);
  for await (const [data, address] of sock) {
    const text = data.toString("latin1");
    print(`The client at ${address} says: ${repr(text)}`);
  }
}

export async function client(network: string, port: number): Promise<void> {
  using sock = await udpSocket({ hostname: "0.0.0.0" });
  sock.setBroadcast(true);
  const text = "Broadcast datagram!";
  sock.send(text, port, await resolveHost(network)); // not sendTo: what is refused here ends the client
}

/** Broadcasts on every subnet that this machine is connected to. One that fails does not stop the others. */
async function everySubnet(port: number): Promise<void> {
  const subnets = connectedSubnets();
  if (subnets.size === 0) throw new Failure("Nothing to broadcast to: no subnet is connected");
  for (const [network, broadcast] of subnets) {
    try {
      await client(broadcast, port);
      print(`Network ${network}, broadcast address ${broadcast}`);
    } catch (error) {
      report(error);
      process.exitCode = 1;
    }
  }
}

const usage = `usage: udp_broadcast.ts server [INTERFACE] [-p PORT]
       udp_broadcast.ts client [NETWORK] [-p PORT]

Send and receive UDP broadcasts.

  INTERFACE        address to listen at (default: every interface)
  NETWORK          broadcast address, such as 192.168.5.255 or '<broadcast>'
                   (default: each connected subnet's)
  -p, --port PORT  UDP port (default 1060; 0 lets the system choose the server's)
  -h, --help       print this and exit`;

if (import.meta.main) {
  main(usage, {
    server: { host: "", leastPort: 0, run: ({ host, port }) => server(host, port) },
    client: { host: "", run: ({ host, port }) => (host === "" ? everySubnet(port) : client(host, port)) },
  });
}
