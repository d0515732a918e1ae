#!/usr/bin/env bun
/**
 * Foundations of Python Network Programming, Third Edition, Listing 2-3, for Bun.
 * A datagram too big for any network, to learn how big one may be on the path to a host (Linux only).
 *
 *     bun big_sender.ts 127.0.0.1
 */
import { dlopen } from "bun:ffi";
import { setTimeout as sleep } from "node:timers/promises";
import { codeOf, Failure, main, print } from "./terminal.ts";
import { resolveHost } from "./udp_helpers.ts";

const IPPROTO_IP = 0;
const IP_MTU = 14;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DO = 2;
const HEADERS = 20 + 8; // IPv4's and UDP's: what of the MTU is not for the data
const PATIENCE = 1000; // ms, in all, for routers to object and the host to answer

export async function sendBigDatagram(hostname: string, port: number): Promise<void> {
  if (process.platform !== "linux") {
    throw new Failure("Not supported here: only Linux tells the MTU of a path");
  }
  let heard = Promise.withResolvers<void>();
  const sock = await Bun.udpSocket({
    connect: { hostname: await resolveHost(hostname), port },
    // A reply, a refusal, and a router's "fragmentation needed": each ends the wait.
    socket: { data: () => heard.resolve(), error: () => heard.resolve() },
  });
  const mtu = forbidFragmentation(sock);
  try {
    sock.send(Buffer.alloc(999_999, "#"));
    print("The big datagram was sent!");
  } catch (error) {
    if (codeOf(error) !== "EMSGSIZE") throw error;
    print("Alas, the datagram did not make it");
    // So far the system knows its own first link. What just fits there tells about the next ones.
    const patience = sleep(PATIENCE, undefined, { ref: false });
    let size: number;
    do {
      size = mtu();
      heard = Promise.withResolvers();
      try {
        sock.send(Buffer.alloc(size - HEADERS, "#"));
      } catch {
        heard.resolve();
      }
      await Promise.race([heard.promise, patience]);
    } while (mtu() < size);
    print(`Actual MTU: ${mtu()}`);
  }
  sock.close();
}

/** Makes the system refuse what would need fragments, and returns a function that asks it for the path's MTU. */
function forbidFragmentation(sock: object): () => number {
  const { fd } = sock as { fd: number }; // Bun 1.4.5 has it, though its types don't.
  // Bun has no call for these options. musl opens its own libc under glibc's name too.
  const { symbols: libc } = dlopen("libc.so.6", {
    setsockopt: { args: ["int", "int", "int", "ptr", "u32"], returns: "int" },
    getsockopt: { args: ["int", "int", "int", "ptr", "ptr"], returns: "int" },
  });
  const value = new Int32Array([IP_PMTUDISC_DO]);
  const length = new Uint32Array([value.byteLength]);
  if (libc.setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, value, value.byteLength) !== 0) {
    throw new Failure("The system does not forbid fragmentation");
  }
  return () => {
    if (libc.getsockopt(fd, IPPROTO_IP, IP_MTU, value, length) === 0) return value[0] ?? 0;
    throw new Failure("The system does not tell the MTU");
  };
}

if (import.meta.main) {
  main("Send UDP packets to learn how big one may be on the path to a host.", {
    "": {
      host: { metavar: "HOST", help: "host that the packets go to" },
      run: ({ host, port }) => sendBigDatagram(host, port),
    },
  });
}
