#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-1, for Bun.
 * A UDP server and client on the loopback interface.
 *
 *     bun udp_local.ts server
 *     bun udp_local.ts client
 */
import { main, print, repr, warn } from "./terminal.ts";
import { Inbox, isReply, sameAddress, sendTo } from "./udp_helpers.ts";

const LOOPBACK = "127.0.0.1";

export async function server(port: number): Promise<void> {
  const inbox = new Inbox();
  const sock = await Bun.udpSocket({ hostname: LOOPBACK, port, socket: inbox });
  print(`Listening at ${repr(sock.address)}`);
  for await (const [data, address] of inbox) {
    const text = data.toString("latin1"); // like the book's ASCII, but no byte makes it fail
    print(`The client at ${repr(address)} says ${repr(text)}`);
    if (isReply(text)) continue; // Two servers that answer answers would never stop.
    const message = `Your data was ${data.length} bytes long`;
    sendTo(sock, message, address);
  }
}

export async function client(port: number, promiscuous = false): Promise<void> {
  const inbox = new Inbox();
  const sock = await Bun.udpSocket({ hostname: "0.0.0.0", socket: inbox }); // The system chooses a port.
  const time = Temporal.Now.plainDateTimeISO().toString({ smallestUnit: "microsecond" });
  const text = `The time is ${time.replace("T", " ")}`;
  sock.send(text, port, LOOPBACK);
  print(`The OS assigned me the address ${repr(sock.address)}`);
  for await (const [data, address] of inbox) {
    const text = data.toString("latin1");
    if (!promiscuous && !sameAddress(address, { address: LOOPBACK, port })) {
      warn(`Ignoring ${repr(text)} from ${repr(address)}: that is not the server`);
      continue;
    }
    print(`The server ${repr(address)} replied ${repr(text)}`);
    break;
  }
  sock.close();
}

if (import.meta.main) {
  main("Send and receive UDP on this machine.", {
    client: {
      options: {
        promiscuous: {
          default: false,
          help: "take the first datagram that comes, whoever sent it (default: check the sender)",
        },
      },
      run: ({ port, promiscuous }) => client(port, promiscuous),
    },
    server: { run: ({ port }) => server(port) },
  });
}
