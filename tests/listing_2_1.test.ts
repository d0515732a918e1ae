/** Listing 2-1 prints what the book prints, and does what the chapter says. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { LARGEST, noSecondLoopback, skips } from "./support/machine.ts";
import { closedPort, Peer } from "./support/peers.ts";
import { LONG, run, serve, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const TIME = /^The time is \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$/;
const ASSIGNED = /^The OS assigned me the address \('0\.0\.0\.0', (\d+)\)$/;

test("server and client print what the book prints", async () => {
  await using server = await serve("udp_local.ts server");
  const { status, out, err } = await run(`udp_local.ts client -p ${server.port}`);
  const [assigned = "", replied, ...rest] = out.split("\n");
  expect(replied).toBe(`The server ('127.0.0.1', ${server.port}) replied 'Your data was 38 bytes long'`);
  expect({ status, err, rest }).toEqual({ status: 0, err: "", rest: [""] });
  const [, port, text] = await server.line(/^The client at \('127\.0\.0\.1', (\d+)\) says '(.*)'$/);
  expect(assigned.match(ASSIGNED)?.[1]).toBe(port as string);
  expect(text).toMatch(TIME);
  expect(Math.abs(Date.parse(text?.slice(12) ?? "") - Date.now())).toBeLessThan(60_000);
});

test("the server answers every datagram, the empty and the largest too, and counts bytes", async () => {
  await using server = await serve("udp_local.ts server");
  using peer = await Peer.create();
  const client = `The client at ('127.0.0.1', ${peer.port}) says`;
  for (const [text, said] of [
    ["", "''"],
    ["x", "'x'"],
    ["it's", `"it's"`],
    ["\x1b[2J\xe4", "'\\x1b[2J\\xe4'"],
    ["#".repeat(LARGEST), `'${"#".repeat(LARGEST)}'`],
  ] as const) {
    expect(await peer.ask(Buffer.from(text, "latin1"), server.port)).toBe(`Your data was ${text.length} bytes long`);
    await server.line(`${client} ${said}`);
  }
});

// The book's experiment: the server is suspended, so that somebody else's datagram comes first.
test("FAKE is taken with --promiscuous", async () => {
  using server = await Peer.create(); // It does not answer.
  await using client = start(`udp_local.ts client --promiscuous -p ${server.port}`);
  using stranger = await Peer.create();
  stranger.send("FAKE", (await server.receive()).port);
  await client.line(`The server ('127.0.0.1', ${stranger.port}) replied 'FAKE'`);
  expect(await client.end()).toMatchObject({ status: 0, err: "" });
});

test.skipIf(skips(noSecondLoopback))(
  "FAKE is ignored by default, from another port as from another address",
  async () => {
    using server = await Peer.create();
    await using client = start(`udp_local.ts client -p ${server.port}`);
    const { port } = await server.receive();
    using otherPort = await Peer.create();
    using otherAddress = await Peer.create("127.0.0.2", server.port);
    let reports = "";
    for (const { socket } of [otherPort, otherAddress]) {
      socket.send("FAKE", port, "127.0.0.1");
      reports += `Ignoring 'FAKE' from ('${socket.address.address}', ${socket.port}): that is not the server\n`;
      await client.until("report", () => client.err === reports);
    }
    server.send("the true reply", port);
    await client.line(`The server ('127.0.0.1', ${server.port}) replied 'the true reply'`);
    expect(await client.end()).toMatchObject({ status: 0 });
  },
);

test("the client waits without limit, also where nobody listens", async () => {
  await using client = start(`udp_local.ts client -p ${await closedPort()}`);
  await client.line(ASSIGNED);
  await run("udp_local.ts --help"); // By then the system has answered that nobody listens.
  expect({ ended: client.process.exitCode, err: client.err }).toEqual({ ended: null, err: "" });
});
