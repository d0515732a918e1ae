/**
 * Backoff, the check of an address, request IDs and subnets: functions that stand on their own. Take the one you like.
 */
import { networkInterfaces } from "node:os";

/**
 * Yields the delays of an exponential backoff, in seconds: 0.1, 0.2, 0.4, 0.8, 1.6 (Listing 2-2). Where the next one would be
 * over `longest` it ends, or, with `giveUp: false`, yields `longest` for ever: a client that never gives up.
 * @param options by default `{ first: 0.1, factor: 2, longest: 2, giveUp: true }`, `first` and `longest` in seconds
 * @throws {RangeError} where there would be no delay, or none that grows
 */
export function* backoff({ first = 0.1, factor = 2, longest = 2, giveUp = true } = {}): Generator<number, void> {
  if (!(first > 0 && first <= longest && factor > 1)) {
    throw new RangeError(`backoff needs 0 < first (${first}) <= longest (${longest}) and factor (${factor}) > 1`);
  }
  for (let delay = first; delay <= longest; delay *= factor) yield delay;
  while (!giveUp) yield longest;
}

/** One end of a conversation. */
export interface Endpoint {
  address: string;
  port: number;
}

/** Whether two addresses are the same, which is how a client checks the sender of a reply (Listing 2-1). */
export function sameAddress(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port;
}

/** A new request ID, to stand before the text of a request: 64 random bits and a blank, `[5f1c0a9e77b1d2c3] `. */
export function newRequestId(): string {
  return `[${crypto.getRandomValues(new Uint8Array(8)).toHex()}] `;
}

/** The request ID before a text, a word of up to 64 letters, digits and `_` in brackets and a blank, or `""` without one. */
export function requestIdOf(text: string): string {
  return /^\[\w{1,64}\] /.exec(text)?.[0] ?? "";
}

/** Whether a text is what these servers, or the book's, send as a reply. To answer one could start an endless exchange. */
export function isReply(text: string): boolean {
  return /^Your data was \d+ bytes long\b/.test(text.slice(requestIdOf(text).length));
}

/** The broadcast address of each subnet that this machine is connected to, by the subnet's network (Listing 2-4). */
export function connectedSubnets(): Map<string, string> {
  const subnets = new Map<string, string>();
  for (const { family, internal, cidr } of Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])) {
    if (family !== "IPv4" || internal || cidr === null) continue;
    const { network, broadcast } = subnetOf(cidr);
    if (broadcast !== undefined) subnets.set(network, broadcast);
  }
  return subnets;
}

/**
 * The subnet of an address in CIDR notation, and the address that reaches every host on it, which a subnet of one or two
 * addresses does not have (RFC 3021): `192.168.5.10/24` gives `192.168.5.0/24` and `192.168.5.255`.
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
