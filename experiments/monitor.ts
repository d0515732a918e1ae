#!/usr/bin/env bun
/**
 * A promiscuous program, on purpose: shows every UDP datagram that comes to this Linux host, whomever it is for. Only root may
 * look: on a host of hosts.ts you are root.
 */
import { dlopen } from "bun:ffi";
import { Failure, fail, print, repr } from "../terminal.ts";
import { Address } from "../udp_socket.ts";

const AF_PACKET = 17;
const SOCK_DGRAM = 2; // without the header of the link
const ETH_P_IP = 0x0008; // 0x0800 in network byte order
const IPPROTO_UDP = 17;

function monitor(): void {
  if (process.platform !== "linux") throw new Failure("Not supported here: only Linux has packet sockets");
  const { socket, recv } = dlopen("libc.so.6", {
    socket: { args: ["int", "int", "int"], returns: "int" },
    recv: { args: ["int", "ptr", "u64", "int"], returns: "i64" },
  }).symbols;
  const fd = socket(AF_PACKET, SOCK_DGRAM, ETH_P_IP);
  if (fd < 0) throw new Failure("Only root may see what is for others: try it on a host of hosts.ts");
  print("Looking at every datagram that comes by");
  for (const buffer = Buffer.alloc(65_535); ; ) {
    const packet = buffer.subarray(0, Math.max(0, Number(recv(fd, buffer, buffer.length, 0))));
    if (packet[9] !== IPPROTO_UDP) continue;
    const datagram = packet.subarray((packet.readUInt8(0) & 15) * 4);
    const fragment = packet.readUInt16BE(6) & 0x1fff; // where in the datagram this packet begins
    if (fragment > 0 || datagram.length < 8) continue;
    const end = (address: number, port: number) =>
      new Address(packet.subarray(address, address + 4).join("."), datagram.readUInt16BE(port));
    const data = datagram.subarray(8, datagram.readUInt16BE(4)); // A short packet is padded.
    print(`${end(12, 0)} to ${end(16, 2)}: ${repr(data.toString("latin1"))}`);
  }
}

try {
  monitor();
} catch (error) {
  fail(error);
}
