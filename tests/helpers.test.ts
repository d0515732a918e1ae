import { describe, expect, test } from "bun:test";
import { repr } from "../terminal.ts";
import { backoff, isReply, newRequestId, requestIdOf, resolveHost, sameAddress, subnetOf } from "../udp_helpers.ts";

describe("backoff", () => {
  test("is the book's by default", () => {
    expect([...backoff()]).toEqual([0.1, 0.2, 0.4, 0.8, 1.6]);
    expect([...backoff()].join(" ")).toBe("0.1 0.2 0.4 0.8 1.6");
  });
  test("takes another first delay, factor and limit", () => {
    expect([...backoff({ first: 1, factor: 3, limit: 30 })]).toEqual([1, 3, 9, 27]);
    expect([...backoff({ first: 2 })]).toEqual([2]);
  });
  test("need not end", () => {
    const delays = backoff({ first: 200, limit: Infinity });
    const held = Array.from({ length: 3 }, () => Math.min(delays.next().value ?? 0, 300));
    expect(held).toEqual([200, 300, 300]);
  });
  test("refuses delays that do not grow, and to give none", () => {
    expect(() => [...backoff({ first: 0 })]).toThrow(RangeError);
    expect(() => [...backoff({ first: 3 })]).toThrow("backoff needs 0 < first <= limit and factor >= 1");
    expect(() => [...backoff({ factor: 0.5 })]).toThrow(RangeError);
    expect(() => [...backoff({ first: Number.NaN })]).toThrow(RangeError);
  });
});

test("sameAddress compares both the address and the port", () => {
  const here = { address: "127.0.0.1", port: 1060 };
  expect(sameAddress(here, { ...here })).toBe(true);
  expect(sameAddress(here, { ...here, port: 1061 })).toBe(false);
  expect(sameAddress(here, { ...here, address: "127.0.0.2" })).toBe(false);
});

test("repr shows an address as the book does", () => {
  expect(repr({ address: "127.0.0.1", port: 1060 })).toBe("('127.0.0.1', 1060)");
});

test("repr quotes a text, and bytes alike, as Python does", () => {
  const cases = {
    "plain text": `'plain text'`,
    "": `''`,
    "it's": `"it's"`,
    '"': `'"'`,
    'it\'s "so"': `'it\\'s "so"'`,
    "back\\slash": `'back\\\\slash'`,
    "\x1b[2J": `'\\x1b[2J'`,
    "\0\t\r\n\x7f": `'\\x00\\t\\r\\n\\x7f'`,
    "é€": `'\\xe9\\u20ac'`,
  };
  for (const [text, quoted] of Object.entries(cases)) expect(repr(text)).toBe(quoted);
  expect(repr(Buffer.from("it's\xff\n", "latin1"))).toBe(`"it's\\xff\\n"`);
});

test("repr leaves no control character and no byte above 127", () => {
  const all = String.fromCharCode(...Array(256).keys());
  expect(repr(all)).toMatch(/^[ -~]+$/);
  expect(repr(Buffer.from(all, "latin1"))).toBe(repr(all));
});

test("repr takes at most 2 ms for the largest datagram of control characters", () => {
  const text = Buffer.from(Array.from({ length: 65_507 }, (_, i) => i % 32)).toString("latin1");
  const times = Array.from({ length: 50 }, () => {
    const begin = performance.now();
    repr(text);
    return performance.now() - begin;
  });
  expect(Math.min(...times)).toBeLessThan(2); // the least, on a busy machine
});

describe("request IDs", () => {
  test("are 64 random bits before the text", () => {
    const ids = new Set(Array.from({ length: 1000 }, newRequestId));
    expect(ids.size).toBe(1000);
    for (const id of ids) expect(id).toMatch(/^\[[0-9a-f]{16}\] $/);
  });
  test("are found at the start of a text only", () => {
    const id = newRequestId();
    expect(requestIdOf(`${id}text`)).toBe(id);
    expect(requestIdOf(id)).toBe(id);
    for (const text of ["text", "", ` ${id}text`, id.replace(/.\]/, "]"), id.toUpperCase().trim()]) {
      expect(requestIdOf(text)).toBe("");
    }
  });
});

test("isReply knows what the servers answer, with an ID and without", () => {
  expect(isReply("Your data was 38 bytes long")).toBe(true);
  expect(isReply(`${newRequestId()}Your data was 0 bytes long`)).toBe(true);
  for (const text of ["", "This is another message", "Your data was 38 bytes long!", "Your data was"]) {
    expect(isReply(text)).toBe(false);
  }
});

describe("resolveHost", () => {
  test("knows Python's special names", async () => {
    expect(await resolveHost("")).toBe("0.0.0.0");
    expect(await resolveHost("<broadcast>")).toBe("255.255.255.255");
  });
  test("gives IPv4 addresses", async () => {
    expect(await resolveHost("127.0.0.1")).toBe("127.0.0.1");
    expect(await resolveHost("localhost")).toBe("127.0.0.1");
  });
  test("refuses IPv6 addresses and unknown hosts", async () => {
    for (const host of ["::1", "fe80::1%eth0"]) {
      await expect(resolveHost(host)).rejects.toThrow(`'${host}' looks like an IPv6 address`);
    }
    await expect(resolveHost("no\x1bhost")).rejects.toThrow(`Unknown host 'no\\x1bhost'`);
  });
});

test("subnetOf computes a subnet and its broadcast address", () => {
  const cases = {
    "192.168.5.10/24": { network: "192.168.5.0/24", broadcast: "192.168.5.255" },
    "10.1.2.3/8": { network: "10.0.0.0/8", broadcast: "10.255.255.255" },
    "172.31.255.254/20": { network: "172.31.240.0/20", broadcast: "172.31.255.255" },
    "203.0.113.6/30": { network: "203.0.113.4/30", broadcast: "203.0.113.7" },
    "1.2.3.4/0": { network: "0.0.0.0/0", broadcast: "255.255.255.255" },
    "203.0.113.6/31": { network: "203.0.113.6/31" },
    "203.0.113.6/32": { network: "203.0.113.6/32" },
  };
  for (const [cidr, subnet] of Object.entries(cases)) expect(subnetOf(cidr)).toEqual(subnet);
});
