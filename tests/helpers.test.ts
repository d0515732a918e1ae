/** The arithmetic of the helpers, and what is printed, without a process. */
import { describe, expect, test } from "bun:test";
import { repr } from "../terminal.ts";
import { backoff, isReply, newRequestId, requestIdOf, sameAddress, subnetOf } from "../udp_helpers.ts";

describe("backoff", () => {
  test.each([
    [{}, [0.1, 0.2, 0.4, 0.8, 1.6]],
    [{ first: 1, factor: 3, longest: 30 }, [1, 3, 9, 27]],
    [{ first: 2 }, [2]],
  ])("with %j ends", (options, delays) => expect([...backoff(options)]).toEqual(delays));

  test("need not give up", () => {
    const delays = backoff({ longest: 300, giveUp: false });
    const some = Array.from({ length: 1000 }, () => Number(delays.next().value));
    expect(some.slice(0, 6)).toEqual([0.1, 0.2, 0.4, 0.8, 1.6, 3.2]);
    expect(some.slice(11, 14)).toEqual([204.8, 300, 300]);
    expect(Math.max(...some)).toBe(300);
  });

  test.each([{ first: 0 }, { first: 3 }, { factor: 1 }, { first: Number.NaN }])("refuses %j", (options) => {
    expect(() => [...backoff(options)]).toThrow(RangeError);
  });
});

test("sameAddress compares both the address and the port", () => {
  const here = { address: "127.0.0.1", port: 1060 };
  expect(sameAddress(here, { ...here })).toBe(true);
  expect(sameAddress(here, { ...here, port: 1061 })).toBe(false);
  expect(sameAddress(here, { ...here, address: "127.0.0.2" })).toBe(false);
});

test.each([
  ["plain text", `'plain text'`],
  ["", `''`],
  ["it's", `"it's"`],
  ['"', `'"'`],
  ['it\'s "so"', `'it\\'s "so"'`],
  ["back\\slash", `'back\\\\slash'`],
  ["\x1b[2J", `'\\x1b[2J'`],
  ["\0\t\r\n\x7f", `'\\x00\\t\\r\\n\\x7f'`],
  ["é€😀", `'\\xe9\\u20ac\\ud83d\\ude00'`],
  [Buffer.from("it's\xff\n", "latin1"), `b"it's\\xff\\n"`],
])("repr quotes %j as Python does", (value, quoted) => expect(repr(value)).toBe(quoted));

test("request IDs are 64 random bits before the text", () => {
  const ids = new Set(Array.from({ length: 1000 }, newRequestId));
  expect(ids.size).toBe(1000);
  for (const id of ids) {
    expect(id).toMatch(/^\[[0-9a-f]{16}\] $/);
    expect(requestIdOf(`${id}text`)).toBe(id);
  }
});

test.each(["text", "", " [1] text", "[] text", "[a b] text", `[${"x".repeat(65)}] text`, "[1]"])(
  "%j begins with no request ID",
  (text) => expect(requestIdOf(text)).toBe(""),
);

test("isReply knows what the servers answer, with an ID and without", () => {
  expect(isReply("Your data was 38 bytes long")).toBe(true);
  expect(isReply(`${newRequestId()}Your data was 0 bytes long`)).toBe(true);
  expect(isReply("Your data was 38 bytes long, and more")).toBe(true);
  for (const text of ["", "This is another message", "I: Your data was 38 bytes long", "Your data was"]) {
    expect(isReply(text)).toBe(false);
  }
});

test.each([
  ["192.168.5.10/24", { network: "192.168.5.0/24", broadcast: "192.168.5.255" }],
  ["10.1.2.3/8", { network: "10.0.0.0/8", broadcast: "10.255.255.255" }],
  ["172.31.255.254/20", { network: "172.31.240.0/20", broadcast: "172.31.255.255" }],
  ["203.0.113.6/30", { network: "203.0.113.4/30", broadcast: "203.0.113.7" }],
  ["1.2.3.4/0", { network: "0.0.0.0/0", broadcast: "255.255.255.255" }],
  ["203.0.113.6/31", { network: "203.0.113.6/31" }],
  ["203.0.113.6/32", { network: "203.0.113.6/32" }],
])("the subnet of %s", (cidr, subnet) => expect<object>(subnetOf(cidr)).toEqual(subnet));
