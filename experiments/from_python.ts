#!/usr/bin/env bun
/**
 * The code of the tables in from_python.md, each piece in a program that runs: `bun experiments/from_python.ts server` and, in
 * another terminal, `client` or `chat`; `alone` and `end` need no server.
 */
import { appendFileSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codeOf, Failure, main, numberOf, print, repr } from "../terminal.ts";
import { backoff, sameAddress } from "../udp_helpers.ts";
import { type Address, type ConnectedSocket, resolveHost, type UnconnectedSocket, udpSocket } from "../udp_socket.ts";

const [hostname, name, delay] = ["127.0.0.1", "localhost", 0.1];

/** What a server does with one datagram, while it takes the next. */
async function handle(sock: UnconnectedSocket, data: Buffer, address: Address) {
  if (data.toString() === "exit") throw new Error("exit is not for strangers");
  await Bun.sleep(200);
  sock.sendTo(data, address);
}

async function server(port: number) {
  using sock = await udpSocket({ hostname, port });
  process.once("SIGINT", () => sock.close());
  print("Listening at", sock.address);
  const seen = new Set();
  const counts = new Map();
  for await (const [data, address] of sock) {
    const count = counts.get(`${address}`) ?? 0;
    print(`${address} says ${repr(data.toString("latin1"))}`, seen.has(`${address}`), count);
    seen.add(`${address}`);
    counts.set(`${address}`, count + 1);
    handle(sock, data, address).catch(console.error);
  }
  print("closed");
}

async function ask(sock: ConnectedSocket) {
  const text = Buffer.from("caf\xe9", "latin1");
  sock.send(text);
  const [data, address] = await sock.receive();
  const [host, port] = address;
  using again = await udpSocket({ connect: address });
  return { data, address, host, port, same: sameAddress(again.remoteAddress, address) };
}

async function client(port: number, times: number) {
  using sock = await udpSocket({ connect: { hostname, port } });
  const other = { address: await resolveHost(name), port };
  let count = 0;
  while (count < times) {
    const { data, address, ...ends } = await ask(sock);
    const text = data.toString("latin1");
    writeSync(1, text);
    print("", ends.host, ends.port === port, ends.same && sameAddress(address, other));
    count += 1;
  }
  const typed = prompt("name:") ?? "";
  print([typed], sock.remoteAddress.port === port, sock.address.port === port);
}

async function listen(sock: ConnectedSocket) {
  for await (const [data] of sock) print(data.toString());
}

async function chat(port: number) {
  using sock = await udpSocket({ connect: { hostname, port } });
  listen(sock).catch(console.error);
  for await (const line of console) {
    if (line === "") break;
    sock.send(line);
  }
  print("closed");
}

/** Counts what comes in a tenth of a second. */
async function serve(sock: UnconnectedSocket) {
  let count = 0;
  for await (const [data] of sock.within(delay)) count += data.length;
  return count;
}

async function sendTwo(sock: UnconnectedSocket, address: Address) {
  const { address: host, port } = address;
  for (const data of ["one", "two"]) sock.send(data, port, host);
}

async function sockets() {
  using sock = await udpSocket({ hostname });
  sock.setBroadcast(true);
  sock.setTTL(64);
  await sendTwo(sock, sock.address);
  let [data, address] = await sock.receive();
  print(data, sameAddress(address, { address: "127.0.0.1", port: 1060 }));
  [data, address] = await sock.receive();
  print(data, address[0], address[1] === sock.address.port);
  sock.sendTo(data, address);
  await Bun.sleep(50);
  for await (const [data] of sock.within(0)) print("within(0)", data);
}

async function timeAndErrors() {
  const begin = performance.now() / 1000;
  using one = await udpSocket({ hostname });
  using other = await udpSocket({ hostname });
  const counts = await Promise.all([serve(one), serve(other)]);
  try {
    await one.receive(delay);
  } catch (error) {
    if (codeOf(error) !== "ETIMEDOUT") throw error;
  }
  const seconds = performance.now() / 1000 - begin;
  print("silence", counts, seconds > 0.19 && seconds < 5);
  print(Temporal.Now.plainDateTimeISO().toString({ smallestUnit: "microsecond" }).replace("T", " "));

  const { port } = other.address;
  other.close();
  using sock = await udpSocket({ connect: { hostname, port } });
  for (const delay of backoff()) {
    try {
      sock.send("anybody?");
      await sock.receive(delay);
    } catch (error) {
      if (codeOf(error) !== "ECONNREFUSED") throw error;
      print("refused", delay);
    }
  }
  print([...backoff({ first: 0.5 })]);
}

class Client {
  sock: ConnectedSocket;
  replies = 0;
  constructor(sock: ConnectedSocket) {
    this.sock = sock;
  }
  count() {
    this.replies += 1;
    return this.replies;
  }
}

async function language(text: string) {
  const data = Buffer.alloc(2);
  data.writeUInt16BE(513);
  const [command, ...words] = text.split(" ");
  const rest = words.join(" ");
  print(data, [command, rest]);
  const xs = [];
  for (let i = 0; i < 5; i++) xs.push(i);
  let sum = 0;
  for (const x of xs) sum += x;
  if (text === "") print("no text");
  if (xs.length > 0) print(xs, sum);
  const [users, name] = [new Map(), "constructor"];
  print(users.has(name), name in {});
  users.set(name, 1);
  for (const [name, n] of users) print(name, n, users.get(name));
  print(JSON.stringify(Object.fromEntries(users)), users.delete(name));
}

async function functions(port: number) {
  const client = new Client(await udpSocket({ connect: { hostname, port } }));
  using sock = client.sock;
  const small = sock.address.port < 1;
  const next = [port].map((port) => port + 1);
  print(next, small ? 1 : 2, client.count(), { port }, Bun.deepEquals({ port }, { port: port }));
}

function files() {
  const file = join(tmpdir(), `from_python.${process.pid}.json`);
  const x = { name: "ann", ports: [1060] };
  const text = `${JSON.stringify(x)}\n`;
  writeFileSync(file, text);
  appendFileSync(file, text);
  print(JSON.parse(text), readFileSync(file, "utf8").trimEnd().split("\n").length);
  rmSync(file);
}

async function end(how: string) {
  print(process.argv.slice(2), how);
  if (how === "fail") throw new Failure("no answer");
  process.exit(1);
}

if (import.meta.main) {
  main("", {
    server: { leastPort: 0, run: ({ port }) => server(port) },
    client: {
      options: { times: { type: "string", default: "1" } },
      run: ({ port, times }) => client(port, numberOf("--times", times, 1, 100)),
    },
    chat: { run: ({ port }) => chat(port) },
    alone: {
      options: { port: { type: "string", short: "p", default: "1080" } },
      async run({ port }) {
        await sockets();
        await timeAndErrors();
        await language("send Ann two words");
        await functions(Number(port));
        files();
      },
    },
    end: { host: "exit", run: ({ host }) => end(host) },
  });
}
