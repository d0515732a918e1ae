/**
 * The network of the listings: backoff, the check of an address, request IDs, hosts and subnets, and what Python's
 * `recvfrom` and `sendto` are on Bun's own sockets. Each stands on its own: take the one you like into a program of yours.
 */
import { type Address, codeOf, EndOfTurn, Failure, flush, messageOf, repr, warn } from "./terminal.ts";

/** How long to wait for each reply; see {@linkcode backoff}. */
export interface BackoffOptions {
  /** The first delay, in seconds. @default {0.1} */
  first?: number;
  /** By what each delay is multiplied to make the next. @default {2} */
  factor?: number;
  /** The longest delay, in seconds. Where the next one would be over it, there is none. @default {2}, none with a cap */
  limit?: number;
  /** A delay to hold once it is reached, in seconds, for a program that never gives up. @default {Infinity} */
  cap?: number;
}

/**
 * Yields the delays of an exponential backoff, in seconds: by default 0.1, 0.2, 0.4, 0.8, 1.6 (Listing 2-2).
 * With a cap they go on without end.
 *
 * @throws {RangeError} where there would be no delay, `factor` is below 1, or `first` is over the cap
 */
export function* backoff({
  first = 0.1,
  factor = 2,
  cap = Infinity,
  limit = cap === Infinity ? 2 : Infinity,
}: BackoffOptions = {}): Generator<number, void> {
  if (!(first > 0 && first <= limit && factor >= 1)) {
    throw new RangeError(`backoff needs 0 < first <= limit and factor >= 1, not ${first}, ${limit} and ${factor}`);
  }
  if (!(first <= cap)) throw new RangeError(`backoff needs first <= cap, not ${first} and ${cap}`);
  for (let delay = first; delay <= limit; delay = Math.min(delay * factor, cap)) yield delay;
}

/** Whether two addresses are the same, which is how a client checks the sender of a reply (Listing 2-1). */
export function sameAddress(a: Address, b: Address): boolean {
  return a.address === b.address && a.port === b.port;
}

/** A new request ID, to stand before the text of a request: 64 random bits and a blank, `[5f1c0a9e77b1d2c3] `. */
export function newRequestId(): string {
  return `[${crypto.getRandomValues(new Uint8Array(8)).toHex()}] `;
}

/** The request ID before a text, as {@linkcode newRequestId} makes it, or `""` where there is none. */
export function requestIdOf(text: string): string {
  return /^\[[0-9a-f]{16}\] /.exec(text)?.[0] ?? "";
}

/** Whether a text is what these servers, or the book's, send as a reply. To answer one could start an endless exchange. */
export function isReply(text: string): boolean {
  return /^(\[[0-9a-f]{16}\] )?Your data was \d+ bytes long$/.test(text);
}

/**
 * The IPv4 address of a host. As in Python, `""` is every interface (0.0.0.0) and `"<broadcast>"` is 255.255.255.255.
 * Bun's sockets would also resolve names, but may prefer IPv6, and `send` takes none.
 *
 * @throws {Failure} where the host is an IPv6 address, more than a host, or unknown
 */
export async function resolveHost(hostname: string): Promise<string> {
  if (hostname === "") return "0.0.0.0";
  if (hostname === "<broadcast>") return "255.255.255.255";
  if (hostname.includes(":")) {
    const { isIPv6 } = await import("node:net"); // only here: it takes 3 MB
    const why = isIPv6(hostname)
      ? "looks like an IPv6 address: the listings speak IPv4, give a name or 127.0.0.1"
      : "is more than a host: give its name or IPv4 address alone, and the port with -p";
    throw new Failure(`${repr(hostname)} ${why}`);
  }
  try {
    // The system's resolver, as in Python; node:dns would take 3 MB more.
    const [found] = await Bun.dns.lookup(hostname, { family: 4, backend: "system" });
    if (found !== undefined) return found.address;
    throw new Error("no IPv4 address");
  } catch (error) {
    throw new Failure(`Unknown host ${repr(hostname)}: ${codeOf(error).replace("DNS_", "") || messageOf(error)}`);
  }
}

/**
 * The subnet of an address in CIDR notation, and the address that reaches every host on it (Listing 2-4), which a
 * subnet of one or two addresses does not have (RFC 3021): `192.168.5.10/24` gives `192.168.5.0/24` and `192.168.5.255`.
 */
export function subnetOf(cidr: string): { network: string; broadcast?: string } {
  const [address = "", length] = cidr.split("/");
  const ip = address.split(".").reduce((number, octet) => number * 256 + Number(octet), 0);
  const size = 2 ** (32 - Number(length));
  const first = ip - (ip % size);
  const dotted = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join(".");
  const network = `${dotted(first)}/${length}`;
  return size > 2 ? { network, broadcast: dotted(first + size - 1) } : { network };
}

// ---- Receiving.

type Socket = Bun.udp.Socket<"buffer">;
type ConnectedSocket = Bun.udp.ConnectedSocket<"buffer">;

/** A datagram and its sender, as Python's `recvfrom` returns them. */
export type Datagram = [data: Buffer, address: Address];

/** How much waits in an inbox, and in an outbox: about what the kernel's buffers hold. */
const ROOM = 256;
/** How long a wait that is over still takes what lies in the socket, in ms. */
const LAST_LOOK = 10;

/**
 * What `recvfrom` is in Python. `Bun.udpSocket({ socket: inbox })` fills it, and a program takes datagrams out of it in
 * their order: `for await (const [data, address] of inbox)` takes all of them, until the socket is closed,
 * {@linkcode within} those that come in time, and {@linkcode receive} one. What is left in it is there for the next taker;
 * where nobody takes any for long, the newest are dropped.
 *
 * On a connected socket a refusal by the other host is thrown to whoever takes next. On others such an error only says
 * that some client has left, and nobody is told.
 */
export class Inbox {
  #arrived: (Datagram | Error)[] = [];
  #takers: ((arrived?: Datagram | Error) => void)[] = [];
  #dropped = 0;
  #said = false;
  readonly #open = new Set<Socket>();
  #closed = false;

  // Bun calls these with another `this`: hence properties, and no methods.
  readonly data = (sock: Socket, data: Buffer, port: number, address: string): void => {
    if (!this.#open.has(sock)) this.#watch(sock);
    this.#put([data, { address, port }]);
  };
  readonly error: (this: unknown, ...args: unknown[]) => void;
  readonly drain = (sock: Socket): void => outboxes.get(sock)?.send();

  constructor() {
    const put = (error: Error) => this.#put(error);
    // Bun 1.4.5 passes the error alone, its types say (socket, error), and a later version may do that.
    this.error = function (...args) {
      const error = args.at(-1) as Error;
      const connected = (this as ConnectedSocket).remoteAddress !== undefined;
      if (connected && codeOf(error) === "ECONNREFUSED") put(error);
    };
  }

  /** Notices when a program closes its socket, which ends whoever waits for more. */
  #watch(sock: Socket): void {
    this.#open.add(sock);
    this.#closed = false;
    callBefore(sock, ["close", Symbol.dispose], () => {
      this.#open.delete(sock);
      this.#closed = this.#open.size === 0;
      if (this.#closed) for (const taker of this.#takers.splice(0)) taker();
    });
  }

  #put(arrived: Datagram | Error): void {
    const taker = this.#takers.shift();
    if (taker !== undefined) taker(arrived);
    else if (this.#arrived.length < ROOM) this.#arrived.push(arrived);
    else this.#dropped++;
  }

  #take(taker: (arrived?: Datagram | Error) => void): void {
    if (this.#arrived.length === 0) {
      this.#takers.push(taker);
    } else {
      taker(this.#arrived.shift());
      const empty = this.#arrived.length === 0;
      if (this.#dropped > 0 && (empty || !this.#said)) {
        warn(`Dropped ${this.#dropped} datagrams: they came faster than they were taken`);
        this.#dropped = 0;
        this.#said = true; // and what is dropped from now on, once the inbox is empty
      }
      if (empty) this.#said = false;
    }
  }

  #next(): Promise<IteratorResult<Datagram, undefined>> {
    return new Promise((resolve, reject) => {
      const taker = (arrived?: Datagram | Error) => {
        if (arrived === undefined) resolve({ done: true, value: arrived });
        else if (arrived instanceof Error) reject(arrived);
        else resolve({ done: false, value: arrived });
      };
      if (this.#closed && this.#arrived.length === 0) taker();
      else this.#take(taker);
    });
  }

  /**
   * Waits for the next datagram, which is taken even where a program does not wait any more, as after a `Promise.race`:
   * a wait that may end without one is {@linkcode within}.
   *
   * @throws {Error} where the socket is closed
   */
  async receive(): Promise<Datagram> {
    const { done, value } = await this.#next();
    if (done) throw new Error("The socket is closed: there is nothing more to receive");
    return value;
  }

  /** The datagrams of the next seconds. Their end is a point in time, which nothing that comes meanwhile puts off. */
  async *within(seconds: number): AsyncGenerator<Datagram, void> {
    let end = performance.now() + seconds * 1000;
    for (let last = false; ; ) {
      const left = end - performance.now();
      if (!(left > 0)) {
        if (last) return;
        // A script that was stopped (Ctrl-Z) wakes up late, and what came in time lies in its socket.
        last = true;
        end = performance.now() + LAST_LOOK;
        continue;
      }
      const { promise, resolve: taker } = Promise.withResolvers<Datagram | Error | undefined>();
      this.#take(taker);
      const timer = setTimeout(taker, Math.min(left, 2 ** 31 - 1)); // a timer's longest: 24.8 days
      const arrived = await promise;
      clearTimeout(timer);
      if (Array.isArray(arrived)) yield arrived;
      else if (arrived !== undefined) throw arrived;
      else this.#takers = this.#takers.filter((other) => other !== taker);
    }
  }

  [Symbol.asyncIterator](): AsyncIterator<Datagram, undefined> {
    return { next: () => this.#next() };
  }
}

// ---- Sending.

/** What a socket has yet to send. */
class Outbox {
  /** Data, port and address of each reply, as `sendMany` takes them. */
  readonly #replies: (string | Uint8Array | number)[] = [];
  readonly #sock: Pick<Socket, "send" | "sendMany">;
  #dropped = 0;

  constructor(sock: Socket) {
    this.#sock = { send: sock.send.bind(sock), sendMany: sock.sendMany.bind(sock) };
    // What a program calls on its socket comes after the replies that it has sent before.
    callBefore(sock, ["close", Symbol.dispose, "send", "sendMany", "setBroadcast", "setTTL"], () => this.send());
  }

  add(data: string | Uint8Array, port: number, address: string): void {
    if (this.#replies.length < 3 * ROOM) this.#replies.push(data, port, address);
    else this.#dropped++;
  }

  /**
   * Sends as much as there is room for in the kernel; the rest goes with `drain`. Bun 1.4.5 lets the ICMP answer to an
   * earlier reply, whose client has left, fail the next call, which sends to somebody else. That clears the error, and
   * the same call made again goes through (https://github.com/oven-sh/bun/pull/36249).
   */
  send(): void {
    const replies = this.#replies;
    if (replies.length === 0) return;
    flush(); // receive, print, reply
    for (let tries = 1; replies.length > 0; ) {
      const [data, port, address] = replies as [string, number, string];
      try {
        // All at once on Linux only: elsewhere Bun sends one by one, and throws though some went out.
        const all = replies.length > 3 && process.platform === "linux";
        const sent = all ? this.#sock.sendMany(replies) : Number(this.#sock.send(data, port, address));
        if (sent === 0) return;
        replies.splice(0, 3 * sent);
        tries = 1;
      } catch (error) {
        if (tries++ < 3) continue;
        replies.splice(0, 3);
        tries = 1;
        warn(`Cannot answer ${repr({ address, port })}: ${messageOf(error)}`);
      }
    }
    if (this.#dropped > 0) warn(`Dropped ${this.#dropped} replies: there was no room in the send buffer`);
    this.#dropped = 0;
  }
}

/** Has something done before each call of some functions of a socket. */
function callBefore(sock: Socket, names: (string | symbol)[], first: () => void): void {
  for (const name of names) {
    const call = Reflect.get(sock, name);
    const value = (...args: unknown[]) => {
      first();
      return call.apply(sock, args);
    };
    Object.defineProperty(sock, name, { value, configurable: true });
  }
}

const outboxes = new Map<Socket, Outbox>();
const sending = new EndOfTurn(() => {
  for (const [sock, outbox] of outboxes) {
    outbox.send();
    if (sock.closed) outboxes.delete(sock);
  }
});

/**
 * What `sendto` is in Python: sends text, or bytes. The replies of one turn of the event loop go out together, after the
 * lines that were printed before. What can't be sent to its address is reported.
 *
 * On a connected socket it needs no address, and what a network in trouble refuses for the moment is a lost datagram.
 *
 * @throws {Error} on a connected socket, what else the system refuses; and what Bun's `send` throws of wrong arguments
 */
export function sendTo(sock: ConnectedSocket, data: string | Uint8Array): void;
export function sendTo(sock: Socket, data: string | Uint8Array, address: Address): void;
export function sendTo(sock: Socket | ConnectedSocket, data: string | Uint8Array, to?: Address): void {
  if (to === undefined) sendConnected(sock as ConnectedSocket, data);
  else sendUnconnected(sock as Socket, data, to);
}

/** What the system says of a send while a cable is pulled. ENOBUFS: where it is the cable of the neighbour. */
const PULLED_CABLE = ["EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENOBUFS"];

function sendConnected(sock: ConnectedSocket, data: string | Uint8Array): void {
  try {
    sock.send(data);
  } catch (error) {
    if (!PULLED_CABLE.includes(codeOf(error))) throw error;
  }
}

function sendUnconnected(sock: Socket, data: string | Uint8Array, { address, port }: Address): void {
  let outbox = outboxes.get(sock);
  // What can't be sent is sent at once: Bun's error then names the program's own line.
  const valid = typeof data === "string" || ArrayBuffer.isView(data);
  const sendable = valid && !sock.closed && port > 0 && port < 65_536 && /^[\d.]+$/.test(address);
  const connected = outbox === undefined && (sock as object as ConnectedSocket).remoteAddress !== undefined;
  if (!sendable || connected) return void sock.send(data, port, address);
  if (outbox === undefined) {
    outbox = new Outbox(sock);
    outboxes.set(sock, outbox);
  }
  // Bytes are copied: a program may write into its buffer again.
  const copy = typeof data === "string" ? data : new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  outbox.add(copy, port, address);
  sending.ask();
}
