#!/usr/bin/env bun
/**
 * The pieces of code of the README's tables from Python to Bun, each in a program that runs: `bun experiments/from_python.ts
 * server` and, in another terminal, `client`.
 */
import { codeOf, main, numberOf, print, repr } from "../terminal.ts";
import { backoff, sameAddress } from "../udp_helpers.ts";
import { type ConnectedSocket, resolveHost, udpSocket } from "../udp_socket.ts";

const [hostname, name, delay, small] = ["127.0.0.1", "localhost", 0.1, true] as const;

async function server(port: number) {
  using sock = await udpSocket({ hostname, port });
  sock.setBroadcast(true);
  process.on("SIGINT", () => sock.close());
  print("Listening at", sock.address);
  const seen = new Set<string>();
  const counts: Record<string, number> = {};
  for await (const [data, address] of sock) {
    const text = data.toString("latin1");
    print(`${address} says ${repr(text)}`, seen.has(`${address}`), counts[`${address}`]);
    seen.add(`${address}`);
    counts[`${address}`] = 1;
    sock.sendTo(text, address);
  }
  print("closed");
}

async function ask(sock: ConnectedSocket) {
  const text = Buffer.from("caf\xe9", "latin1");
  sock.send(text);
  const [data, address] = await sock.receive();
  return { data, address };
}

async function client(port: number, times: number) {
  const sock = await udpSocket({ connect: { hostname, port } });
  let count = 0;
  for (; count < times; count++) {
    const { data, address } = await ask(sock);
    const { address: host, port } = address;
    const other = { address: await resolveHost(name), port };
    const text = data.toString();
    process.stdout.write(text);
    print(host, sameAddress(address, other), sameAddress(address, { address: "127.0.0.1", port: 1060 }));
  }
  const begin = performance.now() / 1000;
  await Bun.sleep(200);
  try {
    await sock.receive(delay);
  } catch (error) {
    if (codeOf(error) !== "ETIMEDOUT") throw error;
    print("silence", performance.now() / 1000 - begin > 0.29);
  }
  const data = Buffer.alloc(2);
  data.writeUInt16BE(513);
  const next: (port: number) => number = (port) => port + 1;
  print(data, data.readUInt16BE(), Buffer.from("\xff", "latin1"), repr("😀"), small ? 1 : 2, next(1));
  print([...backoff({ first: 0.5 })], Bun.deepEquals({ port }, { port: port }), prompt("name:"));
}

if (import.meta.main) {
  main("", {
    server: { leastPort: 0, run: ({ port }) => server(port) },
    client: {
      options: { times: { type: "string", default: "1" } },
      run: ({ port, times }) => client(port, numberOf("--times", times, 1, 100)),
    },
  });
}
