/** Each defence of a client against whoever forges what the server, or the network, would send it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Host, Network } from "../experiments/network.ts";
import type { Order } from "./support/actor.ts";
import { emptyFolder } from "./support/folders.ts";
import { networkTest } from "./support/machine.ts";
import { Actor, ENDLESS, LOOPBACK, Peer } from "./support/peers.ts";
import { LONG, shell, start } from "./support/processes.ts";

setDefaultTimeout(LONG);

const FORGERIES = 5000;

/** A client, the actor that it asks, and one who forges what the server, or the network, would send it. */
async function attack(net: Network, host: Host, options = "") {
  const server = net.use(await Actor.create(host));
  const forger = net.use(await Actor.create(host));
  // Its warnings go into a file: this process would be busy with them.
  const err = join(emptyFolder(), "err");
  const client = net.use(shell(`exec "$bun" udp_remote.ts client -p ${server.address.port}${options} 2>${err}`, host));
  const { text, port } = await server.receive();
  const asked = performance.now();
  const to = { address: LOOPBACK, port };
  const forge = (order: Partial<Order>) => forger.order({ to, from: server.address, ...order });
  const reply = (text: string) => server.send({ texts: [text], to });
  const end = async () => {
    const { status, out } = await client.end();
    return { status, out, err: readFileSync(err, "latin1"), seconds: (performance.now() - asked) / 1000 };
  };
  return { server, client, end, id: /^\[.*\] /.exec(text)?.[0] ?? "", forge, reply };
}

describe("whoever forges the server's own address and port", () => {
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

  networkTest("is refused without the request ID, thousands of times", async (net) => {
    const { client, end, id, forge, reply } = await attack(net, await net.host("host"), " --request-id");
    forge({ texts: forgeries(id), count: FORGERIES, seconds: 1 });
    await client.line("Waiting up to 1.6 seconds for a reply");
    await reply(`${id}the true reply`);
    const { status, out, err } = await end();
    expect(status).toBe(0);
    expect(out.match(/The server says .*/g)).toEqual([`The server says '${id}the true reply'`]);
    const reports = err.split("\n").slice(0, -1);
    expect(reports.length).toBeGreaterThan(FORGERIES / 2); // A busy machine may lose some.
    for (const line of reports) expect(line).toMatch(/^Ignoring '.*': it does not repeat the request ID$/);
  });

  const atFullSpeed = async (net: Network) => {
    const { end, id, forge } = await attack(net, await net.host("host"), " --request-id");
    forge({ texts: forgeries(id), count: ENDLESS });
    const { status, out, err, seconds } = await end();
    expect({ status, last: err.split("\n").at(-2) }).toEqual({ status: 1, last: "I think the server is down" });
    expect(out.match(/Waiting/g)).toHaveLength(5);
    expect(seconds).toBeWithin(3, 4.5);
  };
  networkTest("does not stretch the wait, at full speed", atFullSpeed, test.serial);
});

networkTest(
  "a stranger's datagram that comes while a socket is bound and not yet connected is not taken",
  async (net) => {
    const host = await net.host("host");
    await using stranger = await Actor.create(host);
    const to = { address: LOOPBACK, port: 5000 };
    stranger.order({ texts: ["FAKE"], from: { ...to, port: 5 }, to, count: ENDLESS });
    const program = `import { udpSocket } from "./udp_socket.ts";
    const hostname = "127.0.0.1";
    for (let i = 0; i < 300; i++) {
      using sock = await udpSocket({ hostname, port: 5000, connect: { hostname, port: 5001 } });
      for await (const [data, address] of sock.within(0.001)) console.log(data.toString(), address);
    }`;
    await using own = start(["-e", program], host);
    expect(await own.done()).toBe("");
  },
);

describe("a client that hears", () => {
  networkTest("that a firewall rejects its request says so at once", async (net) => {
    const host = await net.host("host");
    for (const code of [13, 10]) {
      const { server, end, forge } = await attack(net, host);
      forge({ errors: [[3, code]] });
      const err = `No route to host ('${LOOPBACK}', ${server.address.port}), or a firewall rejects it\n`;
      const { status, seconds, ...said } = await end();
      expect({ status, err: said.err }).toEqual({ status: 1, err });
      expect(seconds).toBeLessThan(2);
    }
  });

  networkTest("that its host cannot be reached, at full speed, takes the reply all the same", async (net) => {
    const { server, end, forge, reply } = await attack(net, await net.host("host"));
    forge({ errors: [[3, 1]], count: ENDLESS });
    for (const _ of [1, 2]) await server.receive(); // It asks on.
    await reply("the true reply");
    const { status, out, err } = await end();
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toEndWith("\nThe server says 'the true reply'\n");
  });
});

const WAITS = [0.8, 1.6].flatMap((wait) => ["", " --request-id"].map((option) => [wait, option] as const));

test.each(WAITS)("a client that is stopped while it waits %p s takes what came in time:%s", async (wait, option) => {
  using peer = await Peer.create();
  await using client = start(`udp_remote.ts client -p ${peer.port}${option}`);
  const waiting = `Waiting up to ${wait} seconds for a reply`;
  await client.line(waiting);
  client.kill("SIGSTOP");
  const { text, port } = await peer.receive();
  const id = text.match(/^\[.*\] /)?.[0] ?? "";
  for (let i = 0; i < 20 && id !== ""; i++) peer.send("FAKE", port);
  peer.send(`${id}in time`, port);
  await Bun.sleep(wait * 1000 + 300);
  client.kill("SIGCONT");
  const { status, out } = await client.end();
  expect(out).toEndWith(`\n${waiting}\nThe server says '${id}in time'\n`);
  expect(status).toBe(0);
});
