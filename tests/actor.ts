/**
 * A UDP peer as a process, so that it can stand on a host of tests/network.ts, and one that can lie: it prints each
 * datagram that it gets as a line of JSON, and sends what the JSON lines on its standard input say. With `from`, the
 * datagram claims to come from there: it is written by hand, IP header and all, to a raw socket.
 */
import { dlopen } from "bun:ffi";

/** One end of a conversation. */
export interface Address {
  address: string;
  port: number;
}

/** What an actor is told to send. */
export interface Order {
  texts: string[];
  to: Address;
  /** The source to forge. */
  from?: Address;
  /** How many datagrams in all; the texts are taken in turn. @default {texts.length} */
  count?: number;
  /** Over how many seconds they are spread. @default {0} */
  seconds?: number;
}

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const IPPROTO_UDP = 17;

function rawSocket() {
  const { symbols: libc } = dlopen("libc.so.6", {
    socket: { args: ["int", "int", "int"], returns: "int" },
    sendto: { args: ["int", "ptr", "u64", "int", "ptr", "u32"], returns: "i64" },
  });
  const fd = libc.socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  if (fd < 0) throw new Error("no raw socket");
  return (packet: Uint8Array, to: Address) => {
    const destination = new Uint8Array(16); // struct sockaddr_in
    destination.set([AF_INET, 0, 0, 0, ...octets(to.address)]);
    libc.sendto(fd, packet, packet.length, 0, destination, destination.length);
  };
}

const octets = (address: string) => address.split(".").map(Number);

/** An IPv4 packet with a UDP datagram; the kernel adds the header's length, ID and checksum. */
function packetOf(text: string, from: Address, to: Address): Uint8Array {
  const packet = Buffer.alloc(28 + text.length);
  packet[0] = 0x45; // version 4, a header of 5 words
  packet[8] = 64; // time to live
  packet[9] = IPPROTO_UDP;
  packet.set([...octets(from.address), ...octets(to.address)], 12);
  packet.writeUInt16BE(from.port, 20);
  packet.writeUInt16BE(to.port, 22);
  packet.writeUInt16BE(8 + text.length, 24); // and no UDP checksum, which IPv4 allows
  packet.write(text, 28, "latin1");
  return packet;
}

if (import.meta.main) {
  const sock = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data: (_sock, data, port, address) =>
        console.log(JSON.stringify({ text: data.toString("latin1"), port, address })),
      error() {},
    },
  });
  console.log(JSON.stringify(sock.address));
  let raw: ReturnType<typeof rawSocket> | undefined;
  for await (const line of console) {
    if (line === "") break; // the end of the input
    const { texts, to, from, count = texts.length, seconds = 0 } = JSON.parse(line) as Order;
    const begin = performance.now();
    for (let i = 0; i < count; i++) {
      const text = texts[i % texts.length] ?? "";
      if (from === undefined) sock.send(text, to.port, to.address);
      else {
        raw ??= rawSocket();
        raw(packetOf(text, from, to), to);
      }
      const early = begin + (seconds * 1000 * i) / count - performance.now();
      if (early > 1) await Bun.sleep(early);
    }
    console.log(JSON.stringify({ sent: count }));
  }
}
