/**
 * The socket of the listings: Bun's own, which can also be asked for datagrams, as Python's is by `recvfrom`.
 */
import { dlopen } from "bun:ffi";
import { lookup } from "node:dns/promises";
import { inspect } from "node:util";
import { codeOf, explain, Failure, repr, warn } from "./terminal.ts";

/** One end of a UDP conversation, an IPv4 address and a port. It prints as Python's do: `('127.0.0.1', 1060)`. */
export class Address {
  constructor(
    readonly address: string,
    readonly port: number,
  ) {}
  toString(): string {
    return `('${this.address}', ${this.port})`;
  }
  [inspect.custom](): string {
    return `${this}`;
  }
}

/** A datagram and its sender, as `recvfrom` returns them. */
export type Datagram = [data: Buffer, address: Address];

/** What a socket of the listings has beside Bun's own methods. While somebody waits for a datagram, the program runs on. */
interface Receiver extends AsyncIterable<Datagram>, Disposable {
  readonly address: Address;
  /**
   * The datagrams of some time: it ends after `seconds` in all, not after that much silence.
   * @throws {RangeError} where `seconds` is negative or not a number
   */
  within(seconds: number): AsyncGenerator<Datagram, void>;
  /**
   * The next datagram.
   * @throws {Error} with the code ETIMEDOUT where none comes in `seconds`; what the other host refuses; on a closed socket
   */
  receive(seconds?: number): Promise<Datagram>;
}
export type ConnectedSocket = Bun.udp.ConnectedSocket<"buffer"> & Receiver;
export type UnconnectedSocket = Bun.udp.Socket<"buffer"> &
  Receiver & {
    /**
     * Sends text or bytes, now. What the network refuses is said on standard error: no more than a lost datagram.
     * @throws {Error} what can be sent to nobody, such as 70,000 bytes
     */
    sendTo(data: string | Uint8Array, to: { address: string; port: number }): void;
  };

/** How many datagrams wait for a busy program. The kernel holds about as many, and drops what comes then as well. */
const QUEUE_LIMIT = 256;

/** What has arrived and was not taken yet. */
class Queue {
  readonly #arrived: (Datagram | Error)[] = [];
  #news = Promise.withResolvers<void>();
  #closed = false;
  #waiting = 0;
  /** What keeps the program running: the first that waits takes hold of it, the last lets go. */
  socket: { ref(): void; unref(): void } | undefined;

  put(arrived: Datagram | Error): void {
    if (this.#arrived.length < QUEUE_LIMIT) this.#arrived.push(arrived);
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  readonly #wake = () => {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  };

  /** Hands out what arrives until a point in time, which nothing that arrives puts off, or until so many ms of silence. */
  async *until(end: number, silence = Infinity): AsyncGenerator<Datagram, void> {
    while (!this.#closed) {
      const left = end - performance.now();
      if (left <= 0) return;
      const arrived = this.#arrived.shift();
      if (arrived instanceof Error) throw arrived;
      if (arrived !== undefined) {
        yield arrived;
        continue;
      }
      const wait = Math.min(left, silence);
      const timer = wait < 2 ** 31 ? setTimeout(this.#wake, wait) : undefined; // its longest
      if (this.#waiting++ === 0) this.socket?.ref();
      await this.#news.promise;
      if (--this.#waiting === 0) this.socket?.unref();
      clearTimeout(timer);
      if (silence < left && this.#arrived.length === 0) return;
    }
  }

  async *within(seconds: number): AsyncGenerator<Datagram, void> {
    if (!(seconds >= 0)) throw new RangeError(`a wait takes seconds from 0 up, not ${seconds}`);
    yield* this.until(performance.now() + seconds * 1000);
    yield* this.until(performance.now() + 50, 1); // A script that was stopped (Ctrl-Z) takes what came in time.
  }
}

/**
 * Makes a UDP socket, bound to an interface (default: every one) and a port (default: the system chooses), or connected to a
 * host. `for await (const [data, address] of sock)` takes one datagram after another, until the socket is closed.
 * @throws {Failure} where the host is unknown
 * @throws {Error} what the system refuses, with the `address` and the `port`
 */
export async function udpSocket(options: { hostname?: string; port?: number | undefined }): Promise<UnconnectedSocket>;
export async function udpSocket(options: { connect: { hostname: string; port: number } }): Promise<ConnectedSocket>;
export async function udpSocket(
  options: { hostname?: string; port?: number | undefined } | { connect: { hostname: string; port: number } },
) {
  const connected = "connect" in options;
  const { hostname = "", port = 0 } = connected ? options.connect : options;
  const address = await resolveHost(hostname);
  const addressed = (error: unknown, end: object = { address, port }) => Object.assign(error as Error, end);
  const queue = new Queue();
  const socket = {
    data: (_: unknown, data: Buffer, port: number, address: string) => queue.put([data, new Address(address, port)]),
    // Bun 1.4.5 passes the error alone, its types say (socket, error).
    error: (...args: unknown[]) => {
      if (connected) queue.put(addressed(args.at(-1)));
    },
  };
  const end = { hostname: address, port };
  const open = () => Bun.udpSocket({ ...(connected ? { connect: end } : end), socket });
  const sock = await Promise.try(open).catch((error) => {
    const own = connected && error.syscall === "bind"; // The system chooses it.
    throw addressed(error, own ? { address: "0.0.0.0", port: 0 } : undefined);
  });
  askForNoErrors(sock);
  sock.unref();
  queue.socket = sock;

  const bun = { send: sock.send.bind(sock), close: sock.close.bind(sock) };
  const members = {
    address: new Address(sock.address.address, sock.address.port),
    within: (seconds: number) => queue.within(seconds),
    async receive(seconds = Infinity) {
      for await (const datagram of queue.within(seconds)) return datagram;
      if (sock.closed) throw new Error("The socket is closed");
      throw Object.assign(new Error(`Nothing came in ${seconds} seconds`), { code: "ETIMEDOUT" });
    },
    [Symbol.asyncIterator]: () => queue.until(Infinity),
    /** Bun's own, whose error is told whom it concerns, and stands where the reader's line is. */
    send(...args: Parameters<typeof bun.send>) {
      try {
        return bun.send(...args);
      } catch (error) {
        Error.captureStackTrace(error as Error, members.send);
        throw addressed(error, connected ? undefined : { address: args[2], port: args[1] });
      }
    },
    sendTo(data: string | Uint8Array, to: { address: string; port: number }) {
      try {
        while (!bun.send(data, to.port, to.address)) Bun.sleepSync(1); // A full send buffer: Python's sendto blocks here.
      } catch (error) {
        Error.captureStackTrace(error as Error, members.sendTo);
        const line = explain(addressed(error, to));
        if (line === undefined) throw error;
        warn(line);
      }
    },
    close() {
      bun.close();
      queue.close();
    },
    [Symbol.dispose]: () => members.close(),
  };
  return Object.defineProperties(sock, Object.getOwnPropertyDescriptors(members)); // Bun's other methods stay.
}

/**
 * The IPv4 address of a host. As in Python, `""` is every interface (0.0.0.0) and `"<broadcast>"` is 255.255.255.255.
 * @throws {Failure} where the host is unknown, or an IPv6 address
 */
export async function resolveHost(hostname: string): Promise<string> {
  if (hostname === "") return "0.0.0.0";
  if (hostname === "<broadcast>") return "255.255.255.255";
  const { address, family } = await lookup(hostname, { family: 4 }).catch((error) => {
    const hint = hostname.includes(":") ? " (a port is given with -p)" : "";
    throw new Failure(`Unknown host ${repr(hostname)}: ${codeOf(error)}${hint}`);
  });
  if (family === 4) return address;
  throw new Failure(`${repr(hostname)} looks like an IPv6 address: the listings speak IPv4`);
}

const libc = () =>
  dlopen("libc.so.6", {
    setsockopt: { args: ["int", "int", "int", "ptr", "u32"], returns: "int" },
    getsockopt: { args: ["int", "int", "int", "ptr", "ptr"], returns: "int" },
  }).symbols;
const fdOf = (sock: object) => (sock as { fd: number }).fd; // there, though not in Bun's types

/** Sets an option of a socket that Bun has no call for (Linux). @throws {Failure} where the system refuses */
export function setsockopt(sock: object, level: number, option: number, value: number): void {
  if (libc().setsockopt(fdOf(sock), level, option, new Int32Array([value]), 4) !== 0) {
    throw new Failure(`The system does not take the socket option ${option}`);
  }
}

/** The value of such an option. @throws {Failure} where the system does not tell it */
export function getsockopt(sock: object, level: number, option: number): number {
  const value = new Int32Array(1);
  if (libc().getsockopt(fdOf(sock), level, option, value, new Uint32Array([4])) === 0) return value[0] ?? 0;
  throw new Failure(`The system does not tell the socket option ${option}`);
}

/**
 * Bun asks Linux for every ICMP error (IP_RECVERR), and one client that has left then fails the reply to the next. Python
 * does not ask: a server hears nothing, a connected client what is final, such as a refusal.
 */
function askForNoErrors(sock: object): void {
  if (process.platform !== "linux") return;
  try {
    setsockopt(sock, 0, 11, 0); // IPPROTO_IP, IP_RECVERR
  } catch {} // no C library to call: all else goes on
}
