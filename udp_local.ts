#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-1, for Bun.
 * A UDP server and client on the loopback interface.
 *
 *     bun udp_local.ts server
 *     bun udp_local.ts client
 */
import {
  decodeAscii,
  formatAddress,
  guarded,
  isReply,
  main,
  print,
  quote,
  report,
  sameAddress,
} from "./udp_helpers.ts";

const LOOPBACK = "127.0.0.1";
const USAGE = `usage: udp_local.ts {client,server} [-p PORT] [--promiscuous]

Send and receive UDP on this machine.

  -p, --port PORT  UDP port (default 1060; 0 lets the system choose the server's)
  --promiscuous    client: take the first datagram that comes, whoever sent it (default: check the sender)
  -h, --help       print this and exit`;

export async function server(port: number): Promise<void> {
  const sock = await Bun.udpSocket({
    hostname: LOOPBACK,
    port,
    socket: guarded({
      data(sock, data, port, address) {
        const text = decodeAscii(data);
        print(`The client at ${formatAddress({ address, port })} says ${quote(text)}`);
        if (isReply(text)) return; // Two servers that answer answers would never stop.
        sock.send(`Your data was ${data.length} bytes long`, port, address);
      },
    }),
  });
  print(`Listening at ${formatAddress(sock.address)}`);
}

export async function client(port: number, promiscuous = false): Promise<void> {
  const server = { address: LOOPBACK, port };
  const reply = Promise.withResolvers<string>();
  const sock = await Bun.udpSocket({
    hostname: "0.0.0.0",
    socket: guarded({
      data(_sock, data, port, address) {
        const sender = { address, port };
        const text = quote(decodeAscii(data));
        if (promiscuous || sameAddress(sender, server)) {
          reply.resolve(`The server ${formatAddress(sender)} replied ${text}`);
        } else {
          report(`Ignoring ${text} from ${formatAddress(sender)}: that is not the server`);
        }
      },
    }),
  });
  const now = Temporal.Now.plainDateTimeISO().toString({ smallestUnit: "microsecond" });
  const text = `The time is ${now.replace("T", " ")}`;
  sock.send(text, server.port, server.address);
  print(`The OS assigned me the address ${formatAddress(sock.address)}`);
  print(await reply.promise);
  sock.close();
}

if (import.meta.main) {
  await main(USAGE, {
    client: {
      host: LOOPBACK,
      options: { promiscuous: { type: "boolean" } },
      run: ({ port, values }) => client(port, values.promiscuous === true),
    },
    server: { host: LOOPBACK, run: ({ port }) => server(port) },
  });
}
