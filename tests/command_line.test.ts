/** What a reader may type, and the line and the status that come of it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { LONG, run, serve } from "./support/processes.ts";

setDefaultTimeout(LONG);

const role = "Give a role, server or client";
const port = (least: number, typed: string) => `-p takes a whole number from ${least} to 65535, not '${typed}'`;
const drop = (typed: string) => `--drop takes a number from 0 to 1, not '${typed}'`;

test.each([
  ["udp_local.ts", role],
  ["udp_local.ts peer", role],
  ["udp_remote.ts constructor", role],
  ["udp_remote.ts \x1b\n", role],
  ["big_sender.ts", "The host is missing"],
  ["big_sender.ts 127.0.0.1 ", "Unexpected argument ''"],
  ["udp_local.ts server 127.0.0.1", "Unexpected argument '127.0.0.1'"],
  ["udp_remote.ts client a \x1b\n", "Unexpected argument '\\x1b\\n'"],
  ["udp_local.ts client --fast", "Unknown option '--fast'"],
  ["udp_local.ts client --it's", "Unknown option '--it's'"],
  ["udp_local.ts server --promiscuous", "Unknown option '--promiscuous'"],
  ["udp_remote.ts server --request-id", "Unknown option '--request-id'"],
  ["udp_remote.ts client --request-id=\x1b", "Option '--request-id' does not take an argument"],
  ["udp_remote.ts client --drop 0", "Unknown option '--drop'"],
  ["udp_remote.ts server --drop", "Option '--drop <value>' argument missing"],
  ["udp_remote.ts server --drop 1.5", drop("1.5")],
  ["udp_remote.ts server --drop \n", drop("\\n")],
  ["udp_remote.ts server --drop ", drop("")],
  ["udp_local.ts server -p", "Option '-p, --port <value>' argument missing"],
  ["udp_local.ts server -p http", port(0, "http")],
  ["udp_local.ts server -p 10.5", port(0, "10.5")],
  ["udp_remote.ts server -p-1", port(0, "-1")],
  ["udp_remote.ts client -p \x1b", port(1, "\\x1b")],
  ["udp_local.ts client -p 0", port(1, "0")],
  ["big_sender.ts 127.0.0.1 -p 0", port(1, "0")],
])("%j is wrong usage: one line, and status 2", async (command, line) => {
  expect(await run(command)).toEqual({ status: 2, out: "", err: `${line}: see --help\n` });
});

test("roles, arguments and options come in any order", async () => {
  await using server = await serve("udp_remote.ts --drop=0 127.0.0.1 server");
  for (const words of [
    `-p ${server.port} client 127.0.0.1`,
    `127.0.0.1 --port ${server.port} client`,
    `127.0.0.1 client --port=${server.port} --request-id`,
    `client -p${server.port}`,
  ]) {
    expect(await run(`udp_remote.ts ${words}`)).toMatchObject({ status: 0, err: "" });
  }
});
