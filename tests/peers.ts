/** The other end of a script's conversation: a plain UDP socket in the test itself. */
import { within } from "./scripts.ts";

export interface Datagram {
  text: string;
  port: number;
  address: string;
}

const LOOPBACK = "127.0.0.1";

/** A UDP socket with its received datagrams in a queue. */
export class Peer implements Disposable {
  readonly received: Datagram[] = [];
  #arrival = Promise.withResolvers<void>();

  private constructor(readonly socket: Bun.udp.Socket<"buffer">) {}

  static async create(hostname = LOOPBACK): Promise<Peer> {
    const socket = await Bun.udpSocket({
      hostname,
      socket: {
        data(_socket, data, port, address) {
          peer.#take({ text: data.toString("latin1"), port, address });
        },
        error() {},
      },
    });
    const peer = new Peer(socket);
    return peer;
  }

  #take(datagram: Datagram): void {
    this.received.push(datagram);
    this.#arrival.resolve();
  }

  get port(): number {
    return this.socket.port;
  }

  /** Takes the next datagram from the queue, or waits for one. */
  async receive(): Promise<Datagram> {
    for (;;) {
      const next = this.received.shift();
      if (next) return next;
      this.#arrival = Promise.withResolvers();
      await within(this.#arrival.promise, "a datagram");
    }
  }

  /** Sends a datagram; tries again where the error of an earlier one is in the way. */
  send(data: string | Uint8Array, port: number, address = LOOPBACK): void {
    try {
      this.socket.send(data, port, address);
    } catch {
      this.socket.send(data, port, address);
    }
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

/** A port of the loopback interface at which nobody listens: taken, and given back. */
export async function closedPort(): Promise<number> {
  using peer = await Peer.create();
  return peer.port;
}
