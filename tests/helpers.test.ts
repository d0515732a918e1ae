import { describe, expect, test } from "bun:test";
import {
  backoff,
  decodeAscii,
  formatAddress,
  guarded,
  isReply,
  mayBeLost,
  newRequestId,
  parseNumber,
  quote,
  requestIdOf,
  resolveHost,
  sameAddress,
  subnetOf,
  UsageError,
} from "../udp_helpers.ts";

describe("backoff", () => {
  test("is the book's by default", () => {
    expect([...backoff()]).toEqual([0.1, 0.2, 0.4, 0.8, 1.6]);
    expect([...backoff()].join(" ")).toBe("0.1 0.2 0.4 0.8 1.6");
  });
  test("takes another first delay, factor and limit", () => {
    expect([...backoff({ first: 1, factor: 3, limit: 30 })]).toEqual([1, 3, 9, 27]);
    expect([...backoff({ first: 2 })]).toEqual([2]);
    expect([...backoff({ first: 3 })]).toEqual([]);
  });
  test("need not end", () => {
    const delays = backoff({ first: 200, limit: Infinity });
    const held = Array.from({ length: 3 }, () => Math.min(delays.next().value ?? 0, 300));
    expect(held).toEqual([200, 300, 300]);
  });
  test("refuses delays that do not grow", () => {
    expect(() => [...backoff({ first: 0 })]).toThrow(RangeError);
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

test("formatAddress prints an address as the book does", () => {
  expect(formatAddress({ address: "127.0.0.1", port: 1060 })).toBe("('127.0.0.1', 1060)");
});

test("quote is Python's repr", () => {
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
  for (const [text, quoted] of Object.entries(cases)) expect(quote(text)).toBe(quoted);
});

test("quote leaves no control character and no byte above 127", () => {
  const all = String.fromCharCode(...Array(256).keys());
  expect(quote(all)).toMatch(/^[ -~]+$/);
});

test("decodeAscii is strict", () => {
  const ascii = Buffer.from(Array.from({ length: 128 }, (_, i) => i));
  expect(decodeAscii(ascii)).toBe(String.fromCharCode(...ascii));
  expect(decodeAscii(Buffer.alloc(0))).toBe("");
  expect(() => decodeAscii(Buffer.from("é"))).toThrow("not ASCII, 2 bytes long");
  expect(() => decodeAscii(Buffer.from([128]))).toThrow(RangeError);
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
    for (const text of [
      "text",
      "",
      ` ${id}text`,
      id.replace(/.\]/, "]"),
      id.toUpperCase().trim(),
    ]) {
      expect(requestIdOf(text)).toBe("");
    }
  });
});

test("isReply knows what the servers answer, with an ID and without", () => {
  expect(isReply("Your data was 38 bytes long")).toBe(true);
  expect(isReply(`${newRequestId()}Your data was 0 bytes long`)).toBe(true);
  for (const text of [
    "",
    "This is another message",
    "Your data was 38 bytes long!",
    "Your data was",
  ]) {
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

test("parseNumber takes what it says and nothing else", () => {
  const port = { least: 0, most: 65_535, whole: true };
  for (const text of ["0", "1060", "65535"])
    expect(parseNumber("-p", text, port)).toBe(Number(text));
  for (const text of ["", "65536", "-1", "80.5", "0x50", "1e3", "80 ", "port"]) {
    expect(() => parseNumber("-p", text, port)).toThrow(UsageError);
  }
  const share = { least: 0, most: 1 };
  for (const text of ["0", "1", "0.5", ".5", "1e-3"]) {
    expect(parseNumber("--drop", text, share)).toBe(Number(text));
  }
  for (const text of ["", "1.1", "-0", "NaN", "half", "."]) {
    expect(() => parseNumber("--drop", text, share)).toThrow(UsageError);
  }
});

test("guarded takes both shapes of Bun's error callback", () => {
  const refused = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
  const heard: unknown[] = [];
  const { error } = guarded({ refused: (reason) => heard.push(reason) });
  error(refused);
  error({}, refused);
  error(Object.assign(new Error("unreachable"), { code: "EHOSTUNREACH" }));
  expect(heard).toEqual([refused, refused]);
});

test("mayBeLost loses a datagram, but not a refusal", () => {
  const failWith = (code: string) => () => {
    throw Object.assign(new Error(code), { code });
  };
  mayBeLost(failWith("ENETUNREACH"));
  expect(() => mayBeLost(failWith("ECONNREFUSED"))).toThrow("ECONNREFUSED");
});
