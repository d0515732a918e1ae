#!/usr/bin/env bun
/**
 * Starts a server and asks it ten times, each time just after somebody else, who has gone when the server looks: it is suspended
 * meanwhile. Counts the answers: `bun experiments/gone.ts udp_local.ts server`.
 */
import { Failure, fail, print } from "../terminal.ts";
import { udpSocket } from "../udp_socket.ts";

const TIMES = 10;
const connect = { hostname: "127.0.0.1", port: 1060 };

async function gone(words: string[]): Promise<void> {
  if (words.length === 0) throw new Failure("usage: gone.ts SCRIPT [ARGUMENT]...", 2);
  await using server = Bun.spawn([process.execPath, ...words], { stdout: "pipe" });
  await server.stdout.getReader().read(); // its first line: it listens
  let answers = 0;
  for (let time = 0; time < TIMES; time++) {
    server.kill("SIGSTOP");
    const other = await udpSocket({ connect });
    other.send("bye");
    other.close();
    using sock = await udpSocket({ connect });
    sock.send("hello");
    server.kill("SIGCONT");
    for await (const _ of sock.within(0.3)) {
      answers++;
      break;
    }
  }
  print(`${answers} of ${TIMES} answered`);
}

gone(process.argv.slice(2)).catch(fail);
