/** What a reader may type, and the line and the status that come of it. */
import { describe, expect, test as testAnywhere } from "bun:test";
import { rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forbidden } from "./network.ts";
import { Peer } from "./peers.ts";
import { noFullDisk, noSignals, testUnless } from "./platform.ts";
import { type Place, run, serve, shell, start, useProcesses } from "./scripts.ts";

const test = useProcesses();

const SCRIPTS = ["udp_local.ts", "udp_remote.ts", "big_sender.ts", "udp_broadcast.ts"];

describe("wrong usage is one line and status 2:", () => {
  const role = "Give a role, server or client";
  const port = (least: number, typed: string) => `-p takes a number from ${least} to 65535, not '${typed}'`;
  const cases: Record<string, string> = {
    "udp_local.ts": role,
    "udp_remote.ts": role,
    "udp_broadcast.ts -p 1060": role,
    "udp_local.ts peer": role,
    "udp_remote.ts 127.0.0.1": role,
    "udp_remote.ts constructor": role,
    "big_sender.ts": "The host is missing",
    "big_sender.ts 127.0.0.1 ": "Unexpected argument ''",
    "big_sender.ts 127.0.0.1 127.0.0.2": "Unexpected argument '127.0.0.2'",
    "udp_local.ts server 127.0.0.1": "Unexpected argument '127.0.0.1'",
    "udp_local.ts server client": "Unexpected argument 'client'",
    "udp_remote.ts server 127.0.0.1 127.0.0.2": "Unexpected argument '127.0.0.2'",
    "udp_broadcast.ts client 127.0.0.1 127.0.0.2": "Unexpected argument '127.0.0.2'",
    "udp_local.ts client --fast": "Unknown option '--fast'",
    "udp_local.ts client -x": "Unknown option '-x'",
    "udp_local.ts server --promiscuous": "Unknown option '--promiscuous'",
    "udp_remote.ts server --request-id": "Unknown option '--request-id'",
    "udp_remote.ts client --drop 0": "Unknown option '--drop'",
    "udp_remote.ts server --drop": "Option '--drop <value>' argument missing",
    "udp_remote.ts server --drop 1.5": "--drop takes a number from 0 to 1, not '1.5'",
    "udp_remote.ts server --drop=-0.5": "--drop takes a number from 0 to 1, not '-0.5'",
    "udp_remote.ts server --drop half": "--drop takes a number from 0 to 1, not 'half'",
    "udp_remote.ts server --drop ": "--drop takes a number from 0 to 1, not ''",
    "udp_local.ts server -p": "Option '-p, --port <value>' argument missing",
    "udp_local.ts server -p http": port(0, "http"),
    "udp_local.ts server --port 65536": port(0, "65536"),
    "udp_remote.ts server -p 10.5": port(0, "10.5"),
    "udp_remote.ts server -p-1": port(0, "-1"),
    "udp_local.ts client -p 0": port(1, "0"),
    "udp_remote.ts client -p 0": port(1, "0"),
    "udp_broadcast.ts client -p 0": port(1, "0"),
    "big_sender.ts 127.0.0.1 -p 0": port(1, "0"),
  };
  for (const [command, line] of Object.entries(cases)) {
    testAnywhere(JSON.stringify(command), async () => {
      expect(await run(command)).toEqual({ status: 2, out: "", err: `${line}: see --help\n` });
    });
  }
});

/** Where everybody may listen at ports below 1024, as in most containers, the reason to skip what needs it refused. */
async function whetherPortsAreFree(place: Place): Promise<string> {
  const listen = 'await Bun.udpSocket({ hostname: "127.0.0.1", port: 999 }); process.exit();';
  const { status } = await run(["-e", listen], place);
  return status === 0 ? "everybody may listen at ports below 1024 here" : "";
}

// Root may: but not as a user namespace's root, in the network namespace of others.
const asNobody = process.getuid?.() === 0 ? { prefix: ["unshare", "-U"] } : { prefix: [] };
const cannotTry = asNobody.prefix.length > 0 ? forbidden : "";
const freePorts = noSignals || cannotTry || (await whetherPortsAreFree(asNobody));

describe("what fails is one line and status 1:", () => {
  const fails = async (command: string, line: string, place?: Place) => {
    expect(await run(command, place)).toEqual({ status: 1, out: "", err: `${line}\n` });
  };

  test("address in use", async () => {
    using peer = await Peer.create();
    const line = (address: string) =>
      `Address already in use: ('${address}', ${peer.port}), choose another port with -p`;
    await fails(`udp_local.ts server -p ${peer.port}`, line("127.0.0.1"));
    await fails(`udp_remote.ts server 127.0.0.1 -p ${peer.port}`, line("127.0.0.1"));
    await fails(`udp_remote.ts server -p ${peer.port}`, line("0.0.0.0"));
    await fails(`udp_broadcast.ts server -p ${peer.port}`, line("0.0.0.0"));
  });

  test("address not of this machine", async () => {
    const line = "Cannot listen at ('192.0.2.99', 1060): not an address of this machine";
    await fails("udp_remote.ts server 192.0.2.99", line);
    await fails("udp_broadcast.ts server 192.0.2.99", line);
  });

  testUnless(freePorts)("port below 1024", async () => {
    await fails(
      "udp_remote.ts server 127.0.0.1 -p 999",
      "Permission denied to listen at ('127.0.0.1', 999): ports below 1024 are for root, choose another with -p",
      asNobody,
    );
  });

  test("unknown host, and IPv6", async () => {
    const linux = process.platform === "linux" ? ["big_sender.ts"] : []; // elsewhere it looks for none
    for (const script of ["udp_remote.ts server", "udp_broadcast.ts client", ...linux]) {
      const { status, out, err } = await run(`${script} a..b`);
      expect({ status, out }).toEqual({ status: 1, out: "" });
      expect(err).toMatch(/^Unknown host 'a\.\.b': .*\n$/);
    }
    const line = "'::1' looks like an IPv6 address: the listings speak IPv4";
    await fails("udp_remote.ts client ::1", line);
    await fails("udp_broadcast.ts server ::1", line);
  });

  test("broadcast without SO_BROADCAST", async () => {
    const denied = (address: string) =>
      `Permission denied to send to ('${address}', 1060): a broadcast needs sock.setBroadcast(true), or a route forbids it`;
    if (process.platform === "linux") {
      // It needs no route, and the connection is refused.
      const address = "127.255.255.255";
      await fails(`udp_remote.ts client ${address}`, denied(address));
      await fails(`big_sender.ts ${address}`, denied(address));
    } else {
      // Elsewhere the first datagram is, where there is a route to the address.
      const address = "255.255.255.255";
      const { status, err } = await run(`udp_remote.ts client ${address}`);
      expect(status).toBe(1);
      expect(err).toMatch(/^(Permission denied|Cannot send) to \('255\.255\.255\.255', 1060\): .*\n$/);
    }
  });
});

test("roles, arguments and options come in any order", async () => {
  const server = await serve("udp_remote.ts --drop=0 127.0.0.1 server");
  for (const words of [
    `-p ${server.port} client 127.0.0.1`,
    `127.0.0.1 --port ${server.port} client`,
    `127.0.0.1 client --port=${server.port} --request-id`,
    `client -p${server.port}`,
  ]) {
    expect((await run(`udp_remote.ts ${words}`)).status).toBe(0);
  }
});

test("the port is 1060 by default", async () => {
  const { out } = await run("udp_remote.ts client 127.0.0.2");
  expect(out).toStartWith("Client socket name is ('127.0.0.1', ");
  const { err } = await run("udp_remote.ts server 192.0.2.99");
  expect(err).toContain("('192.0.2.99', 1060)");
});

testAnywhere("each script says how it is used", async () => {
  const options = {
    "udp_local.ts": ["client", "server", "-p", "1060", "--promiscuous"],
    "udp_remote.ts": ["INTERFACE", "HOST", "-p", "1060", "--drop", "0.5", "--request-id"],
    "big_sender.ts": ["HOST", "-p", "1060"],
    "udp_broadcast.ts": ["INTERFACE", "NETWORK", "-p", "1060"],
  };
  for (const [script, words] of Object.entries(options)) {
    const { status, out, err } = await run(`${script} --help`);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toStartWith(`usage: ${script} `);
    for (const word of [...words, "--port", "-h, --help"]) expect(out).toContain(word);
    expect((await run(`${script} -h nonsense`)).out).toBe(out);
  }
});

const noBits = process.platform === "win32" ? "Windows has no bits for executable files" : "";

testUnless(noBits)("each script is executable", async () => {
  for (const script of SCRIPTS) {
    const file = join(import.meta.dir, "..", script);
    expect(statSync(file).mode & 0o111).toBe(0o111);
    expect(await Bun.file(file).text()).toStartWith("#!/usr/bin/env bun\n");
  }
});

describe("the end", () => {
  const places = ["udp_local.ts server", "udp_remote.ts server", "udp_broadcast.ts server"];
  for (const command of places) {
    test(`Ctrl-C ends ${command} with 130, SIGTERM with 143`, async () => {
      for (const [signal, status] of [
        ["SIGINT", 130],
        ["SIGTERM", 143],
      ] as const) {
        const server = await serve(command);
        const { out } = server;
        server.kill(signal);
        expect(await server.end()).toEqual({ status, out, err: "" });
      }
    });
  }

  test("Ctrl-C ends a client that waits with 130", async () => {
    using peer = await Peer.create();
    for (const script of ["udp_local.ts", "udp_remote.ts"]) {
      const client = start(`${script} client -p ${peer.port}`);
      await peer.receive();
      client.kill("SIGINT");
      expect(await client.end()).toMatchObject({ status: 130, err: "" });
    }
  });

  test("output goes into a file as it comes", async () => {
    const file = join(tmpdir(), `listing-${crypto.randomUUID()}`);
    const server = shell(`exec "$bun" udp_remote.ts server 127.0.0.1 -p 0 >'${file}'`);
    const client = shell(`until grep -q Listening '${file}'; do sleep 0.02; done; cat '${file}'`);
    const [, port] = await client.line(/^Listening at \('127\.0\.0\.1', (\d+)\)$/);
    await run(`udp_remote.ts client -p ${port}`);
    const text = await Bun.file(file).text();
    expect(text.split("\n").length).toBeGreaterThan(2);
    server.kill("SIGINT");
    expect(await server.end()).toMatchObject({ status: 130, err: "" });
    expect(await Bun.file(file).text()).toBe(text);
    rmSync(file);
  });

  testUnless(noSignals, noFullDisk)("a full disk is an error", async () => {
    const server = shell('"$bun" udp_local.ts server -p 0 >/dev/full');
    const { status, err } = await server.end();
    expect(status).toBe(1);
    expect(err).toMatch(/^Cannot write the output: ENOSPC.*\n$/);
  });
});

testAnywhere("all four scripts are tested here", () => {
  const top = join(import.meta.dir, "..");
  const found = [...new Bun.Glob("*.ts").scanSync(top)].sort();
  expect(found).toEqual([...SCRIPTS, "terminal.ts", "udp_helpers.ts", "udp_socket.ts"].sort());
});
