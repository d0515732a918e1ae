/** The other end of a script's conversation: a plain UDP socket, in the test itself or in a process of its own. */
import type { Endpoint } from "../../udp_helpers.ts";
import type { Order } from "./actor.ts";
import { inVain, PATIENCE, type Place, type Running, saidOf, start } from "./processes.ts";

export const LOOPBACK = "127.0.0.1";
export const ENDLESS = 10_000_000; // more datagrams than an actor can send while a test lasts

export interface Datagram extends Endpoint {
  text: string;
}

/** A UDP socket with its received datagrams in a queue. */
export class Peer implements Disposable {
  readonly received: Datagram[] = [];
  #arrival = Promise.withResolvers<void>();

  private constructor(readonly socket: Bun.udp.Socket<"buffer">) {}

  static async create(hostname = LOOPBACK, port = 0): Promise<Peer> {
    const socket = await Bun.udpSocket({
      hostname,
      port,
      socket: {
        data(_socket, data, port, address) {
          peer.received.push({ text: data.toString("latin1"), port, address });
          peer.#arrival.resolve();
        },
        error() {},
      },
    });
    const peer = new Peer(socket);
    return peer;
  }

  get port(): number {
    return this.socket.port;
  }

  /** Takes the next datagram from the queue, or waits for one. */
  async receive(): Promise<Datagram> {
    const next = await this.receiveWithin(PATIENCE);
    return next ?? inVain(`no datagram at port ${this.port} from ${saidOf(this.port)}`);
  }

  /** The same, or gives up after some milliseconds. */
  async receiveWithin(patience: number): Promise<Datagram | undefined> {
    if (this.received.length === 0) {
      this.#arrival = Promise.withResolvers();
      const timer = setTimeout(this.#arrival.resolve, patience);
      await this.#arrival.promise;
      clearTimeout(timer);
    }
    return this.received.shift();
  }

  /** Asks a server something and waits for the reply. */
  async ask(text: string | Uint8Array, port: number): Promise<string> {
    this.send(text, port);
    return (await this.receive()).text;
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

/** A port of the loopback interface at which nobody listens, and which the system gives to nobody else. */
export async function closedPort(): Promise<number> {
  for (;;) {
    try {
      using peer = await Peer.create(LOOPBACK, 20_000 + Math.floor(Math.random() * 10_000));
      return peer.port;
    } catch {} // It is taken.
  }
}

/** A peer in a process of its own (actor.ts), on any host, which can also forge the source of what it sends. */
export class Actor implements AsyncDisposable {
  private constructor(
    readonly address: Endpoint,
    readonly process: Running,
  ) {}

  static async create(place?: Place): Promise<Actor> {
    const process = start("tests/support/actor.ts", place);
    const [line = ""] = await process.line(/^.*"family".*$/);
    return new Actor(JSON.parse(line), process);
  }

  /** Waits for the next datagram. */
  async receive(): Promise<Datagram> {
    const [line = ""] = await this.process.line(/^.*"text".*$/).catch((error) => {
      throw new Error(`${error.message}\n${saidOf(this.address.port)}`);
    });
    return JSON.parse(line);
  }

  /** Sends what the order says, and waits until it is sent. */
  async send(order: Order): Promise<void> {
    this.order(order);
    await this.process.line(/^{"sent"/);
  }

  /** Sends what the order says, which may be more than a test waits for. */
  order(order: Order): void {
    this.process.type(JSON.stringify(order));
  }

  [Symbol.asyncDispose] = () => this.process[Symbol.asyncDispose]();
}
