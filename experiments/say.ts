#!/usr/bin/env bun
/**
 * Sends each of its arguments to a server on this machine, as it stands, and prints what is answered within 0.3 seconds:
 * `bun experiments/say.ts hello 'two words'`.
 */
import { print, repr } from "../terminal.ts";
import { Inbox } from "../udp_helpers.ts";

const inbox = new Inbox();
const sock = await Bun.udpSocket({
  connect: { hostname: "127.0.0.1", port: 1060 },
  socket: inbox,
});
for (const text of process.argv.slice(2)) {
  sock.send(text);
  let answer = "no answer";
  for await (const [data] of inbox.within(0.3)) {
    answer = repr(data);
    break;
  }
  print(`${repr(Buffer.from(text))}: ${answer}`);
}
sock.close();
