/**
 * The socket of the listings: Bun's own, which can also be asked for datagrams, as Python's is by `recvfrom`.
 */
import { dlopen } from "bun:ffi";
import { lookup } from "node:dns/promises";
import { inspect } from "node:util";
import { codeOf, Failure, report, repr } from "./terminal.ts";
import { type Endpoint, sameAddress } from "./udp_helpers.ts";

const Pair = Array as unknown as new (address: string, port: number) => readonly [address: string, port: number];

/** An IPv4 address and a port: a pair as in Python, `const [host, port] = address`, which prints as `('127.0.0.1', 1060)`. */
export class Address extends Pair {
  static readonly [Symbol.species] = Array;
  readonly family = "IPv4"; // as Bun's own addresses have it
  constructor(
    readonly address: string,
    readonly port: number,
  ) {
    super(address, port);
  }
  override toString(): string {
    return `('${this.address}', ${this.port})`;
  }
  [inspect.custom](): string {
    return `${this}`;
  }
}

/** A datagram and its sender, as `recvfrom` returns them. */
export type Datagram = [data: Buffer, address: Address];

/** What a socket of the listings has beside Bun's own methods. While somebody waits for a datagram, the program runs on. */
interface Members<To extends unknown[]> extends AsyncIterable<Datagram>, Disposable {
  readonly address: Address;
  /**
   * The datagrams of some time: it ends after `seconds` in all, not after that much silence. `within(0)` gives what has come.
   * @throws {RangeError} where `seconds` is negative or not a number
   */
  within(seconds: number): AsyncGenerator<Datagram, void>;
  /**
   * The next datagram.
   * @throws {Error} with the code ETIMEDOUT where none comes in `seconds`; what the other host refuses; on a closed socket
   */
  receive(seconds?: number): Promise<Datagram>;
  /**
   * Sends text or bytes, now, or when there is room for it. What it throws ends a client, as in Python.
   * @throws {Error} what the network refuses, or has no room for in 5 s; what can be sent to nobody; on a closed socket
   */
  send(data: Bun.udp.Data, ...to: To): boolean;
  close(): void;
}
export type ConnectedSocket = Bun.udp.ConnectedSocket<"buffer"> & Members<[]> & { readonly remoteAddress: Address };
export type UnconnectedSocket = Bun.udp.Socket<"buffer"> &
  Members<[port: number, address: string]> & {
    /**
     * Sends text or bytes as `send` does, but what the network refuses is said on standard error: no more than a lost datagram.
     * @throws {Error} what can be sent to nobody, such as 70,000 bytes
     */
    sendTo(data: string | Uint8Array, to: Endpoint): void;
  };

/** What a socket is bound or connected to: an address or a name, and a port. */
type HostPort = { hostname?: string; port?: number };

/** What has arrived and was not taken yet: up to 256 datagrams, about as many as the kernel holds, which then drops them too. */
class Queue {
  readonly #arrived: Datagram[] = [];
  #error: Error | undefined; // The last one, which is told first: the kernel keeps one as well.
  #news = Promise.withResolvers<void>();
  closed = false;

  put(arrived: Datagram | Error): void {
    if (arrived instanceof Error) this.#error = arrived;
    else if (this.#arrived.length < 256) this.#arrived.push(arrived);
    this.wake();
  }

  readonly wake = () => {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  };

  /** Hands out what has arrived, and, if it may wait, what arrives until `end`, a time that nothing puts off. */
  async *until(throwHere: ThrowHere, end: number, mayWait = true): AsyncGenerator<Datagram, void> {
    do {
      if (this.closed) return;
      const error = this.#error;
      this.#error = undefined;
      if (error !== undefined) throwHere(error);
      const arrived = this.#arrived.shift();
      if (arrived !== undefined) {
        yield arrived;
        continue;
      }
      const left = end - performance.now();
      if (!mayWait || left <= 0) return;
      // The timer keeps the program running, which the socket does not. A longer one would end at once.
      const timer = setTimeout(this.wake, Math.min(left, 2 ** 31 - 1));
      await this.#news.promise;
      clearTimeout(timer);
    } while (performance.now() < end);
  }

  async *within(throwHere: ThrowHere, seconds: number): AsyncGenerator<Datagram, void> {
    if (!(seconds >= 0)) throwHere(new RangeError(`a wait takes seconds from 0 up, not ${seconds}`));
    yield* this.until(throwHere, performance.now() + seconds * 1000);
    // Two turns of the event loop bring what the kernel holds: a script that was stopped (Ctrl-Z) takes what came in time.
    for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate);
    yield* this.until(throwHere, performance.now() + 50, false);
  }
}

type ThrowHere = (error: Error) => never;

/** Throws an error as if it stood where the reader has made a call: a line that Bun forgets while the call waits. */
function throwerAt(call: (...args: never[]) => unknown): ThrowHere {
  const here = new Error();
  Error.captureStackTrace(here, call);
  return (error) => {
    Object.assign(here, error, { message: error.message });
    throw Object.setPrototypeOf(here, Object.getPrototypeOf(error));
  };
}

const errorOf = (message: string, about: object) => Object.assign(new Error(message), about);
const closedError = () => errorOf("The socket is closed", { code: "EBADF" });

/**
 * Makes a UDP socket, bound to an interface (default: every one) and a port (default: the system chooses), and connected to the
 * host that `connect` names. `for await (const [data, address] of sock)` takes datagrams until the socket is closed.
 * @throws {Failure} where the host is unknown
 * @throws {Error} what the system refuses, with the `address` and the `port`
 */
export function udpSocket(options: HostPort & { connect?: never }): Promise<UnconnectedSocket>;
export function udpSocket(options: HostPort & { connect: Required<HostPort> | Endpoint }): Promise<ConnectedSocket>;
export function udpSocket(options: HostPort & { connect?: HostPort | Endpoint }) {
  return open(options).catch(throwerAt(udpSocket));
}

async function open({ connect, ...bind }: HostPort & { connect?: HostPort | Endpoint }) {
  const local = await resolved(bind);
  const remote = connect && (await resolved(connect));
  const addressed = (error: unknown, { hostname, port } = remote ?? local) =>
    Object.assign(error as Error, { address: hostname, port });
  const queue = new Queue();
  let peer: Address | undefined; // Bun binds first, and then connects: what a stranger sends in between is not for it.
  const socket = {
    data(_: unknown, data: Buffer, port: number, address: string) {
      const sender = new Address(address, port);
      if (remote === undefined || (peer && sameAddress(sender, peer))) queue.put([data, sender]);
    },
    // Bun 1.4.5 passes the error alone, its types say (socket, error).
    error: (...args: unknown[]) => remote && queue.put(addressed(args.at(-1))),
  };
  const make = () => Bun.udpSocket({ ...local, ...(remote && { connect: remote }), socket });
  const sock = await Promise.try(make).catch((error) => {
    throw addressed(error, error.syscall === "bind" ? local : remote);
  });
  // IPPROTO_IP, IP_RECVERR: Bun asks Linux for every ICMP error, and one client that has left then fails the reply to the
  // next. Python does not ask: a server hears nothing, a connected client what is final, such as a refusal.
  libc?.setsockopt(fdOf(sock), 0, 11, new Int32Array([0]), 4);
  sock.unref(); // Whoever waits keeps the program running.
  const { remoteAddress } = sock as Partial<ConnectedSocket>;
  if (remoteAddress) peer = new Address(remoteAddress.address, remoteAddress.port);

  const bun = { send: sock.send.bind(sock), close: sock.close.bind(sock) };
  let full = 0; // since when nothing could be sent: a link that takes nothing holds up a server once
  const members: Members<[port: number, address: string]> & Pick<UnconnectedSocket, "sendTo"> = {
    address: new Address(sock.address.address, sock.address.port),
    ...(peer && { remoteAddress: peer }),
    within: (seconds) => queue.within(throwerAt(members.within), seconds),
    async receive(seconds = Infinity) {
      const throwHere: ThrowHere = throwerAt(members.receive);
      for await (const datagram of queue.within(throwHere, seconds)) return datagram;
      if (sock.closed) throwHere(closedError());
      return throwHere(errorOf(`Nothing came in ${seconds} seconds`, { code: "ETIMEDOUT", syscall: "recv" }));
    },
    [Symbol.asyncIterator]: () => queue.until(throwerAt(members[Symbol.asyncIterator]), Infinity),
    /** Bun's own, but that it waits for room, and that its error names whom it concerns and stands at the reader's line. */
    send(...args) {
      try {
        for (; !bun.send(...args); Bun.sleepSync(1)) {
          // A full send buffer: Python's send blocks here, but hears signals meanwhile, which nothing here can.
          full ||= performance.now();
          if (performance.now() - full > 5000)
            throw errorOf("ENOBUFS: no room to send it", { code: "ENOBUFS", syscall: "send" });
        }
        full = 0;
        return true;
      } catch (thrown) {
        const error = sock.closed ? closedError() : thrown;
        // Nobody refuses at once: this is about an earlier datagram, where there is no C library to call.
        if (remote === undefined && codeOf(error) === "ECONNREFUSED") return members.send(...args);
        Error.captureStackTrace(error as Error, members.send);
        throw addressed(error, remote ?? { hostname: args[2], port: args[1] });
      }
    },
    sendTo(data, to) {
      try {
        members.send(data, to.port, to.address);
      } catch (error) {
        Error.captureStackTrace(error as Error, members.sendTo);
        report(error);
      }
    },
    close() {
      bun.close();
      queue.closed = true;
      queue.wake();
    },
    [Symbol.dispose]: () => members.close(),
  };
  return Object.defineProperties(sock, Object.getOwnPropertyDescriptors(members)); // Bun's other methods stay.
}

async function resolved(end: HostPort | Endpoint) {
  const { hostname = "", port = 0, ...others } = "address" in end ? { hostname: end.address, port: end.port } : end;
  for (const name in others) throw new TypeError(`udpSocket takes hostname and port, not ${name}`);
  return { hostname: await resolveHost(hostname), port };
}

/**
 * The IPv4 address of a host. As in Python, `""` is every interface (0.0.0.0) and `"<broadcast>"` is 255.255.255.255.
 * @throws {Failure} where the host is unknown, or an IPv6 address
 */
export async function resolveHost(hostname: string): Promise<string> {
  if (hostname === "") return "0.0.0.0";
  if (hostname === "<broadcast>") return "255.255.255.255";
  const { address, family } = await lookup(hostname, { family: 4 }).catch((error) => {
    const what = codeOf(error) === "EAI_AGAIN" ? "No name server answers for" : "Unknown host";
    const hint = hostname.includes(":") ? " (a host is named without a port)" : "";
    throw new Failure(`${what} ${repr(hostname)}: ${codeOf(error)}${hint}`);
  });
  if (family === 4) return address;
  throw new Failure(`${repr(hostname)} looks like an IPv6 address: the listings speak IPv4`);
}

/** The C library, where there is one that can be called. It is opened once: each time keeps some memory. */
const libc = (() => {
  try {
    return dlopen("libc.so.6", {
      setsockopt: { args: ["int", "int", "int", "ptr", "u32"], returns: "int" },
      getsockopt: { args: ["int", "int", "int", "ptr", "ptr"], returns: "int" },
    }).symbols;
  } catch {
    return undefined;
  }
})();
const fdOf = (sock: object) => (sock as { fd: number }).fd; // there, though not in Bun's types
const system = libc ? "The system" : "Bun, which cannot call the C library,";

/** Sets an option of a socket that Bun has no call for (Linux). @throws {Failure} where the system refuses */
export function setsockopt(sock: object, level: number, option: number, value: number): void {
  if (libc?.setsockopt(fdOf(sock), level, option, new Int32Array([value]), 4) !== 0) {
    throw new Failure(`${system} does not take the socket option ${option}`);
  }
}

/** The value of such an option. @throws {Failure} where the system does not tell it */
export function getsockopt(sock: object, level: number, option: number): number {
  const value = new Int32Array(1);
  if (libc?.getsockopt(fdOf(sock), level, option, value, new Uint32Array([4])) === 0) return value[0] ?? 0;
  throw new Failure(`${system} does not tell the socket option ${option}`);
}
