/**
 * A UDP peer as a process, so that it can stand on a host of network.ts, and one that can lie: it prints each
 * datagram that it gets as a line of JSON, and sends what the JSON lines on its standard input say. With `from`, the
 * datagram claims to come from there: it is written by hand, IP header and all, to a raw socket.
 */
import { dlopen } from "bun:ffi";
import type { Endpoint } from "../../udp_helpers.ts";

/** What an actor is told to send. */
export interface Order {
  texts?: string[];
  to: Endpoint;
  /** The source to forge. */
  from?: Endpoint;
  /** ICMP errors, type and code, in place of texts: each says what became of a datagram that `to` has sent to `from`. */
  errors?: [type: number, code: number][];
  /** How many datagrams in all; the texts are taken in turn. @default {1 each} */
  count?: number;
  /** Over how many seconds they are spread. @default {0} */
  seconds?: number;
}

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const IPPROTO_ICMP = 1;
const IPPROTO_UDP = 17;

function rawSocket() {
  const { symbols: libc } = dlopen("libc.so.6", {
    socket: { args: ["int", "int", "int"], returns: "int" },
    sendto: { args: ["int", "ptr", "u64", "int", "ptr", "u32"], returns: "i64" },
  });
  const fd = libc.socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  if (fd < 0) throw new Error("no raw socket");
  return (packet: Uint8Array, to: Endpoint) => {
    const destination = Uint8Array.of(AF_INET, 0, 0, 0, ...octets(to.address), 0, 0, 0, 0, 0, 0, 0, 0); // struct sockaddr_in
    libc.sendto(fd, packet, packet.length, 0, destination, destination.length);
  };
}

const octets = (address: string) => address.split(".").map(Number);

/** An IPv4 packet; the kernel adds the header's length, ID and checksum. */
function packetOf(protocol: number, from: Endpoint, to: Endpoint, body: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45; // version 4, a header of 5 words
  header[8] = 64; // time to live
  header[9] = protocol;
  header.set([...octets(from.address), ...octets(to.address)], 12);
  return Buffer.concat([header, body]);
}

function datagramOf(text: string, from: Endpoint, to: Endpoint): Buffer {
  const body = Buffer.alloc(8 + text.length);
  body.writeUInt16BE(from.port, 0);
  body.writeUInt16BE(to.port, 2);
  body.writeUInt16BE(body.length, 4); // and no checksum, which IPv4 allows
  body.write(text, 8, "latin1");
  return packetOf(IPPROTO_UDP, from, to, body);
}

function errorOf([type, code]: [number, number], from: Endpoint, to: Endpoint): Buffer {
  const body = Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 5, 120]), datagramOf("", to, from)]); // an MTU of 1400
  let sum = 0;
  for (let i = 0; i < body.length; i += 2) sum += body.readUInt16BE(i);
  body.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 2);
  return packetOf(IPPROTO_ICMP, from, to, body);
}

if (import.meta.main) {
  const tell = (text: string, port: number, address: string) => console.log(JSON.stringify({ text, port, address }));
  const sock = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: { data: (_, data, port, address) => tell(data.toString("latin1"), port, address), error() {} },
  });
  console.log(JSON.stringify(sock.address));
  for await (const line of console) {
    if (line === "") break; // the end of the input
    const order: Order = JSON.parse(line);
    const { texts = [], to, from, errors = [], seconds = 0, count = texts.length + errors.length } = order;
    let send: (i: number) => unknown = (i) => sock.send(texts[i % texts.length] ?? "", to.port, to.address);
    if (from !== undefined) {
      const datagrams = texts.map((text) => datagramOf(text, from, to));
      const packets = [...datagrams, ...errors.map((one) => errorOf(one, from, to))];
      const raw = rawSocket();
      send = (i) => raw(packets[i % packets.length] as Buffer, to);
    }
    const begin = performance.now();
    for (let i = 0; i < count; i++) {
      send(i);
      const early = begin + (seconds * 1000 * i) / count - performance.now();
      if (early > 1) await Bun.sleep(early);
    }
    console.log(JSON.stringify({ sent: count }));
  }
}
