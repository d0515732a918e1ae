#!/usr/bin/env bun
/**
 * A server that is overheard: a stranger with another port sees each request and answers first. Run it where a server
 * would be, `bun experiments/stranger.ts`, and then a client.
 */
import { print, repr } from "../terminal.ts";
import { Inbox, sendTo } from "../udp_helpers.ts";

const hostname = "127.0.0.1";
const stranger = await Bun.udpSocket({ hostname, port: 37821, socket: new Inbox() });
const inbox = new Inbox();
const sock = await Bun.udpSocket({ hostname, port: 1060, socket: inbox });
print(`Listening at ${repr(sock.address)}, with a stranger at ${repr(stranger.address)}`);
for await (const [, address] of inbox) {
  sendTo(stranger, "FAKE", address);
  sendTo(sock, "the true reply", address);
}
