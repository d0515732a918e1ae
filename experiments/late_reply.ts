#!/usr/bin/env bun
/**
 * A server whose reply to an earlier question, of 7 bytes, comes late: just before the reply to this one. Run it where a
 * server would be, `bun experiments/late_reply.ts`, and then `bun udp_remote.ts client`, without and with `--request-id`.
 */
import { print, repr } from "../terminal.ts";
import { Inbox, requestIdOf, sendTo } from "../udp_helpers.ts";

const inbox = new Inbox();
const sock = await Bun.udpSocket({ hostname: "127.0.0.1", port: 1060, socket: inbox });
print(`Listening at ${repr(sock.address)}`);
for await (const [data, address] of inbox) {
  const id = requestIdOf(data.toString("latin1"));
  sendTo(sock, "Your data was 7 bytes long", address);
  sendTo(sock, `${id}Your data was ${data.length} bytes long`, address);
}
