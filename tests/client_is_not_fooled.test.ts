/** Each defence of a client against thousands of forged datagrams; and what happens without it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { noSecondLoopback, skips } from "./support/machine.ts";
import { type Host, networkTest } from "./support/network.ts";
import { Actor, closedPort, LOOPBACK, Peer } from "./support/peers.ts";
import { LONG, type Running, run, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const FORGERIES = 5000;
const ERRORS_AT_FULL_SPEED = 10_000_000; // more than can be sent while a test lasts

const portOf = async (client: Running) => Number((await client.line(/^(?:Client socket|The OS).* (\d+)\)$/))[1]);

describe.skipIf(skips(noSecondLoopback))("a stranger with an address of his own", () => {
  test("is refused by the sender check of Listing 2-1, thousands of times", async () => {
    using server = await Peer.create();
    await using client = start(`udp_local.ts client -p ${server.port}`);
    const port = await portOf(client);
    using otherPort = await Peer.create();
    using otherAddress = await Peer.create("127.0.0.2", server.port);
    const reports = () => client.err.split("\n").length - 1;
    for (let sent = 0; sent < FORGERIES; ) {
      for (let i = 0; i < 50; i++, sent += 2) {
        for (const forger of [otherPort, otherAddress]) forger.send("Your data was 38 bytes long", port);
      }
      await client.until(`${sent} reports`, () => reports() === sent); // so that none is lost in a full buffer
    }
    server.send("the true reply", port);
    const { status, out, err } = await client.end();
    expect({ status, replies: out.match(/The server .*/g) }).toEqual({
      status: 0,
      replies: [`The server ('${LOOPBACK}', ${server.port}) replied 'the true reply'`],
    });
    for (const { socket } of [otherPort, otherAddress]) {
      const sender = `('${socket.address.address}', ${socket.port})`;
      expect(err).toContain(`Ignoring 'Your data was 38 bytes long' from ${sender}: that is not the server\n`);
    }
  });

  test("is kept out by the connected socket of Listing 2-2", async () => {
    using server = await Peer.create();
    await using client = start(`udp_remote.ts client -p ${server.port}`);
    const port = await portOf(client);
    using otherPort = await Peer.create();
    using otherAddress = await Peer.create("127.0.0.2", server.port);
    for (let i = 0; i < FORGERIES; i += 2) {
      for (const forger of [otherPort, otherAddress]) forger.send("FAKE", port);
      if (i % 100 === 0) await Bun.sleep(1);
    }
    await client.line("Waiting up to 0.8 seconds for a reply");
    server.send("the true reply", port);
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'the true reply'\n");
  });
});

describe("whoever forges the server's own address and port", () => {
  /** A client that asks an actor, and the order that forges what the actor would send it. */
  async function attack(stack: AsyncDisposableStack, host: Host, options: string) {
    const server = stack.use(await Actor.create(host));
    const forger = stack.use(await Actor.create(host));
    const client = stack.use(start(`udp_remote.ts client -p ${server.address.port}${options}`, host));
    const { text, port } = await server.receive();
    const to = { address: LOOPBACK, port };
    const forge = (texts: string[], count = texts.length, seconds = 0) =>
      forger.order({ texts, to, from: server.address, count, seconds });
    const reply = (text: string) => server.send({ texts: [text], to });
    return { client, id: /^\[.*\] /.exec(text)?.[0] ?? "", forge, reply, asked: performance.now() };
  }

  /** What somebody who does not know the ID might send, and the ID cut or moved. */
  const forgeries = (id: string) => [
    "Your data was 42 bytes long", // no ID
    "[0123456789abcdef] Your data was 42 bytes long",
    `${id.slice(0, -2)}Your data was 42 bytes long`,
    `${id.slice(0, -3)}] Your data was 42 bytes long`,
    id.trim(),
    ` ${id}Your data was 42 bytes long`,
    `x${id}Your data was 42 bytes long`,
    `${id.toUpperCase().replace(/\d/g, "A")}Your data was 42 bytes long`,
    "",
  ];

  networkTest("is refused without the request ID; all at once do no harm either", async (net) => {
    for (const seconds of [1, 0]) {
      await using stack = new AsyncDisposableStack();
      const { client, id, forge, reply } = await attack(stack, await net.host("host"), " --request-id");
      forge(forgeries(id), FORGERIES, seconds);
      await client.line(`Waiting up to ${seconds === 1 ? 1.6 : 0.8} seconds for a reply`);
      await reply(`${id}the true reply`);
      const { status, out, err } = await client.end();
      expect(status).toBe(0);
      expect(out.match(/The server says .*/g)).toEqual([`The server says '${id}the true reply'`]);
      const reports = err.split("\n").slice(0, -1);
      if (seconds > 0) expect(reports).toHaveLength(FORGERIES);
      for (const line of reports) expect(line).toMatch(/^Ignoring '.*': it does not repeat the request ID$/);
    }
  });

  networkTest("does not stretch the wait", async (net) => {
    await using stack = new AsyncDisposableStack();
    const { client, id, forge, asked } = await attack(stack, await net.host("host"), " --request-id");
    forge(forgeries(id), FORGERIES, 2.8);
    const { status, out, err } = await client.end();
    expect(status).toBe(1);
    expect(err).toEndWith("\nI think the server is down\n");
    expect(out.match(/Waiting/g)).toHaveLength(5);
    expect(performance.now() - asked).toBeWithin(3000, 4500);
  });

  networkTest("is taken by a client that asks without an ID", async (net) => {
    await using stack = new AsyncDisposableStack();
    const { client, forge } = await attack(stack, await net.host("host"), "");
    forge(["FAKE"]);
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'FAKE'\n");
  });

  networkTest("cannot play the reply to an earlier request, which comes late", async (net) => {
    const host = await net.host("host");
    await using server = await Actor.create(host);
    // The second client gets the port of the first, and with it what comes late.
    await using first = start(`udp_remote.ts client -p ${server.address.port} --request-id`, host);
    const { text, port } = await server.receive();
    first.kill("SIGKILL");
    await first.end();
    host.sh(`echo ${port} ${port} >/proc/sys/net/ipv4/ip_local_port_range`);
    await using second = start(`udp_remote.ts client -p ${server.address.port} --request-id`, host);
    const request = await server.receive();
    expect(request.port).toBe(port);
    const [late = "", right = ""] = [text, request.text].map((one) => `${one.slice(0, 19)}Your data was 42 bytes long`);
    await server.send({ texts: [late, right], to: request });
    const { status, out, err } = await second.end();
    expect({ status, err }).toEqual({ status: 0, err: `Ignoring '${late}': it does not repeat the request ID\n` });
    expect(out).toEndWith(`\nThe server says '${right}'\n`);
  });
});

describe("a client that hears", () => {
  /** A client, the actor that it asks, and one who forges what the network says of the request. */
  async function asking(stack: AsyncDisposableStack, host: Host) {
    const server = stack.use(await Actor.create(host));
    const forger = stack.use(await Actor.create(host));
    const client = stack.use(start(`udp_remote.ts client -p ${server.address.port}`, host));
    const to = { address: LOOPBACK, port: (await server.receive()).port };
    const forge = (code: number, count: number) =>
      forger.order({ errors: [[3, code]], to, from: server.address, count });
    return { server, client, to, forge };
  }

  networkTest("that a firewall rejects its request says so at once", async (net) => {
    const host = await net.host("host");
    for (const code of [13, 10]) {
      await using stack = new AsyncDisposableStack();
      const { server, client, forge } = await asking(stack, host);
      const begin = performance.now();
      forge(code, 1);
      const err = `No route to host ('${LOOPBACK}', ${server.address.port}), or a firewall rejects it\n`;
      expect(await client.end()).toMatchObject({ status: 1, err });
      expect(performance.now() - begin).toBeLessThan(2000);
    }
  });

  networkTest("that its host cannot be reached, at full speed, takes the reply all the same", async (net) => {
    await using stack = new AsyncDisposableStack();
    const { server, client, to, forge } = await asking(stack, await net.host("host"));
    forge(1, ERRORS_AT_FULL_SPEED);
    for (const _ of [1, 2]) await server.receive(); // It asks on.
    await server.send({ texts: ["the true reply"], to });
    const { status, out, err } = await client.end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'the true reply'\n");
  });

  networkTest("a router's own rejection says so, and asks on where there is no way for the moment", async (net) => {
    const [alice, router] = [await net.host("alice"), await net.host("router")];
    net.link(
      { host: alice, name: "eth0", address: "10.0.1.1/24" },
      { host: router, name: "west", address: "10.0.1.254/24" },
    );
    router.forward();
    alice.ip("route add default via 10.0.1.254");
    router.ip("route add prohibit 10.0.2.1"); // 3/13, as firewalls do
    router.ip("route add unreachable 10.0.2.2"); // 3/1
    const err = "No route to host ('10.0.2.1', 1060), or a firewall rejects it\n";
    expect(await run("udp_remote.ts client 10.0.2.1", alice)).toMatchObject({ status: 1, err });
    const down = "I think the server is down\n";
    expect(await run("udp_remote.ts client 10.0.2.2", alice)).toMatchObject({ status: 1, err: down });
  });
});

test("a client that is stopped in any of its waits takes the reply that came in time, and not what came later", async () => {
  const cases = [0.1, 0.8, 1.6].flatMap((wait) => ["", " --request-id"].map((option) => [wait, option] as const));
  await Promise.all(
    cases.map(async ([wait, option]) => {
      using peer = await Peer.create();
      await using client = start(`udp_remote.ts client -p ${peer.port}${option}`);
      await client.line(`Waiting up to ${wait} seconds for a reply`);
      client.kill("SIGSTOP");
      const { text, port } = await peer.receive();
      const id = text.match(/^\[.*\] /)?.[0] ?? "";
      for (let i = 0; i < 20 && id !== ""; i++) peer.send("FAKE", port);
      peer.send(`${id}in time`, port);
      await Bun.sleep(wait * 1000 + 300);
      client.kill("SIGCONT");
      const { status, out } = await client.end();
      const lines = [`Waiting up to ${wait} seconds for a reply`, `The server says '${id}in time'`, ""];
      expect({ status, lines: out.split("\n").slice(-3) }).toEqual({ status: 0, lines });
    }),
  );
});

test("programs that import a client are told of a refusal, and go on", async () => {
  const program = `
    import { client } from "./udp_remote.ts";
    try { await client("${LOOPBACK}", ${await closedPort()}); } catch (error) { console.log(error.code); }`;
  const { status, out, err } = await run(["-e", program]);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  expect(out).toEndWith("\nECONNREFUSED\n");
});
