#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-2, for Bun.
 * A UDP server that drops requests, and a client that repeats them with a growing delay.
 *
 *     bun udp_remote.ts server
 *     bun udp_remote.ts client 127.0.0.1
 */
import { Failure, main, print, repr, warn } from "./terminal.ts";
import { backoff, Inbox, isReply, newRequestId, requestIdOf, resolveHost, sendTo } from "./udp_helpers.ts";

export async function server(hostname: string, port: number, drop = 0.5): Promise<void> {
  const inbox = new Inbox();
  const sock = await Bun.udpSocket({ hostname, port, socket: inbox }); // the book's `interface` is a reserved word
  print(`Listening at ${repr(sock.address)}`);
  for await (const [data, address] of inbox) {
    if (Math.random() < drop) {
      print(`Pretending to drop packet from ${repr(address)}`);
      continue;
    }
    const text = data.toString("latin1");
    print(`The client at ${repr(address)} says ${repr(text)}`);
    if (isReply(text)) continue; // Two servers that answer answers would never stop.
    const message = `${requestIdOf(text)}Your data was ${data.length} bytes long`;
    sendTo(sock, message, address);
  }
}

export async function client(hostname: string, port: number, withId = false): Promise<void> {
  const inbox = new Inbox();
  const sock = await Bun.udpSocket({ connect: { hostname, port }, socket: inbox });
  print(`Client socket name is ${repr(sock.address)}`);
  const prefix = withId ? newRequestId() : "";
  const text = `${prefix}This is another message`;
  let reply: string | undefined;
  for (const delay of backoff()) {
    sendTo(sock, text);
    print(`Waiting up to ${delay} seconds for a reply`);
    for await (const [data] of inbox.within(delay)) {
      reply = data.toString("latin1");
      if (reply.startsWith(prefix)) break;
      warn(`Ignoring ${repr(reply)}: it does not repeat the request ID`);
      reply = undefined;
    }
    if (reply !== undefined) break;
  }
  sock.close();
  if (reply === undefined) throw new Failure("I think the server is down");
  print(`The server says ${repr(reply)}`);
}

if (import.meta.main) {
  main("Send and receive UDP, pretending that packets are often dropped.", {
    server: {
      host: {
        metavar: "INTERFACE",
        type: resolveHost,
        default: "",
        help: "address to listen at (default: every interface)",
      },
      options: {
        drop: {
          metavar: "PROBABILITY",
          default: 0.5,
          least: 0,
          most: 1,
          help: "how likely a request is dropped",
        },
      },
      run: ({ host, port, drop }) => server(host, port, drop),
    },
    client: {
      host: {
        metavar: "HOST",
        type: resolveHost,
        default: "127.0.0.1",
        help: "host to send to (default 127.0.0.1)",
      },
      options: {
        "request-id": {
          default: false,
          help: "take only a reply that repeats a random ID (default: any reply)",
        },
      },
      run: ({ host, port, "request-id": withId }) => client(host, port, withId),
    },
  });
}
