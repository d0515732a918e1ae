#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-2, for Bun.
 * A UDP server that drops requests, and a client that repeats them with a growing delay.
 *
 *     bun udp_remote.ts server
 *     bun udp_remote.ts client 127.0.0.1
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  backoff,
  decodeAscii,
  formatAddress,
  guarded,
  isReply,
  main,
  mayBeLost,
  newRequestId,
  parseNumber,
  print,
  quote,
  report,
  requestIdOf,
  resolveHost,
} from "./udp_helpers.ts";

const USAGE = `usage: udp_remote.ts server [INTERFACE] [-p PORT] [--drop PROBABILITY]
       udp_remote.ts client [HOST] [-p PORT] [--request-id]

Send and receive UDP, pretending that packets are often dropped.

  INTERFACE           address that the server listens at (default: every interface)
  HOST                host that the client sends to (default 127.0.0.1)
  -p, --port PORT     UDP port (default 1060; 0 lets the system choose the server's)
  --drop PROBABILITY  server: how likely it drops a request, from 0 to 1 (default 0.5)
  --request-id        client: take only a reply that repeats a random ID (default: any reply)
  -h, --help          print this and exit`;

export async function server(hostname: string, port: number, drop = 0.5): Promise<void> {
  const sock = await Bun.udpSocket({
    hostname: await resolveHost(hostname),
    port,
    socket: guarded({
      data(sock, data, port, address) {
        const client = formatAddress({ address, port });
        if (Math.random() < drop) return print(`Pretending to drop packet from ${client}`);
        const text = decodeAscii(data);
        print(`The client at ${client} says ${quote(text)}`);
        if (isReply(text)) return; // Two servers that answer answers would never stop.
        const id = requestIdOf(text);
        sock.send(`${id}Your data was ${data.length} bytes long`, port, address);
      },
    }),
  });
  print(`Listening at ${formatAddress(sock.address)}`);
}

export async function client(hostname: string, port: number, withId = false): Promise<void> {
  const id = withId ? newRequestId() : "";
  const reply = Promise.withResolvers<string>();
  const sock = await Bun.udpSocket({
    connect: { hostname: await resolveHost(hostname), port },
    socket: guarded({
      data(_sock, data) {
        const text = decodeAscii(data);
        if (text.startsWith(id)) reply.resolve(text);
        else report(`Ignoring ${quote(text)}: it does not repeat the request ID`);
      },
      refused: reply.reject,
    }),
  });
  print(`Client socket name is ${formatAddress(sock.address)}`);

  let text: string | undefined;
  for (const delay of backoff()) {
    mayBeLost(() => sock.send(`${id}This is another message`));
    print(`Waiting up to ${delay} seconds for a reply`);
    text = await Promise.race([reply.promise, sleep(delay * 1000, undefined, { ref: false })]);
    if (text !== undefined) break;
  }
  sock.close();
  if (text === undefined) throw new Error("I think the server is down");
  print(`The server says ${quote(text)}`);
}

if (import.meta.main) {
  await main(USAGE, {
    server: {
      argument: "[INTERFACE]",
      host: "",
      options: { drop: { type: "string", default: "0.5" } },
      run: ({ host, port, values }) =>
        server(host, port, parseNumber("--drop", String(values.drop), { least: 0, most: 1 })),
    },
    client: {
      argument: "[HOST]",
      host: "127.0.0.1",
      options: { "request-id": { type: "boolean" } },
      run: ({ host, port, values }) => client(host, port, values["request-id"] === true),
    },
  });
}
