import { expect } from "bun:test";
import { closedPort, Peer } from "./peers.ts";
import { LARGEST } from "./platform.ts";
import { run, serve, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const TIME = /^The time is \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$/;
const ASSIGNED = /^The OS assigned me the address \('0\.0\.0\.0', (\d+)\)$/;

test("server and client print what the book prints", async () => {
  const server = await serve("udp_local.ts server");
  const { status, out, err } = await run(`udp_local.ts client -p ${server.port}`);
  const [assigned, replied, ...rest] = out.split("\n");
  const port = assigned?.match(ASSIGNED)?.[1];
  expect(port).toBeString();
  expect(replied).toBe(`The server ('127.0.0.1', ${server.port}) replied 'Your data was 38 bytes long'`);
  expect({ status, err, rest }).toEqual({ status: 0, err: "", rest: [""] });
  const [, from, text] = await server.line(/^The client at \('127\.0\.0\.1', (\d+)\) says '(.*)'$/);
  expect(from).toBe(port);
  expect(text).toMatch(TIME);
});

test("the client's time is this machine's", async () => {
  using peer = await Peer.create();
  start(`udp_local.ts client -p ${peer.port}`);
  const { text } = await peer.receive();
  expect(text).toHaveLength(38);
  expect(Math.abs(Date.parse(text.slice(12)) - Date.now())).toBeLessThan(60_000);
});

test("the server answers every datagram, the empty and the largest too, and counts bytes", async () => {
  if (process.platform === "linux") expect(LARGEST).toBe(65_507);
  const server = await serve("udp_local.ts server");
  using peer = await Peer.create();
  for (const text of ["", "x", "it's", "\x1b[2J", "#".repeat(LARGEST)]) {
    peer.send(text, server.port);
    const reply = await peer.receive();
    expect(reply.text).toBe(`Your data was ${text.length} bytes long`);
    expect(reply.port).toBe(server.port);
  }
  const client = `The client at ('127.0.0.1', ${peer.port}) says`;
  await server.line(`${client} ''`);
  await server.line(`${client} 'x'`);
  await server.line(`${client} "it's"`);
  await server.line(`${client} '\\x1b[2J'`);
});

test("what is not ASCII is shown and answered like the rest, by server and client", async () => {
  const server = await serve("udp_local.ts server");
  using peer = await Peer.create();
  peer.send(new Uint8Array([72, 228, 10]), server.port);
  expect((await peer.receive()).text).toBe("Your data was 3 bytes long");
  await server.line(`The client at ('127.0.0.1', ${peer.port}) says 'H\\xe4\\n'`);

  const client = start(`udp_local.ts client -p ${peer.port}`);
  const request = await peer.receive();
  peer.send(new Uint8Array([72, 228, 10]), request.port);
  expect(await client.end()).toMatchObject({
    status: 0,
    out: expect.stringContaining(`\nThe server ('127.0.0.1', ${peer.port}) replied 'H\\xe4\\n'\n`),
    err: "",
  });
});

// The book's experiment: the server is suspended, so that somebody else's datagram comes first.
for (const promiscuous of [true, false]) {
  test(`FAKE is ${promiscuous ? "taken with --promiscuous" : "ignored by default"}`, async () => {
    const server = await serve("udp_local.ts server");
    server.kill("SIGSTOP");
    const option = promiscuous ? " --promiscuous" : "";
    const client = start(`udp_local.ts client -p ${server.port}${option}`);
    const [, port] = await client.line(ASSIGNED);
    using stranger = await Peer.create();
    stranger.send("FAKE", Number(port));
    const sender = `('127.0.0.1', ${stranger.port})`;
    if (promiscuous) {
      await client.line(`The server ${sender} replied 'FAKE'`);
    } else {
      const report = `Ignoring 'FAKE' from ${sender}: that is not the server\n`;
      await client.until("report", () => client.err === report);
      server.kill("SIGCONT");
      await client.line(`The server ('127.0.0.1', ${server.port}) replied 'Your data was 38 bytes long'`);
    }
    expect((await client.end()).status).toBe(0);
    server.kill("SIGCONT");
  });
}

test("the client takes one reply, where several come at once", async () => {
  using peer = await Peer.create();
  const client = start(`udp_local.ts client -p ${peer.port}`);
  const { port } = await peer.receive();
  client.kill("SIGSTOP");
  peer.send("first", port);
  peer.send("second", port);
  client.kill("SIGCONT");
  const { out } = await client.end();
  expect(out.match(/replied .*/g)).toEqual(["replied 'first'"]);
});

test("the client waits without limit, also where nobody listens", async () => {
  const port = await closedPort();
  const client = start(`udp_local.ts client -p ${port}`);
  await client.line(ASSIGNED);
  // Nobody listens yet: the system has answered that by the time another whole script has run.
  await run("udp_local.ts --help");
  expect(client.process.exitCode).toBeNull();
  expect(client.err).toBe("");
});

test("server and client can be imported, and run nothing by that", async () => {
  const imported = await run([
    "-e",
    `const { server, client } = await import("./udp_local.ts");
     console.log(server.length, typeof client)`,
  ]);
  expect(imported).toEqual({ status: 0, out: "1 function\n", err: "" });
});
