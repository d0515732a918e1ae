/** What the user, the system or the network refuses is said once, in one true line, with status 1. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { networkTest, notLinux, skips } from "./support/machine.ts";
import { LOOPBACK, Peer } from "./support/peers.ts";
import { LONG, run, serve } from "./support/processes.ts";

setDefaultTimeout(LONG);

const failed = (err: string) => ({ status: 1, out: "", err: `${err}\n` });
const denied = (address: string, broadcast = "leave `connect` out to broadcast") =>
  `Permission denied to send to ('${address}', 1060): ${broadcast}, or a route forbids it`;

test("an address that is in use, or not of this machine", async () => {
  using peer = await Peer.create();
  const inUse = (address: string) =>
    failed(`Address already in use: ('${address}', ${peer.port}), choose another port with -p`);
  expect(await run(`udp_local.ts server -p ${peer.port}`)).toEqual(inUse(LOOPBACK));
  expect(await run(`udp_remote.ts server 127.0.0.1 -p ${peer.port}`)).toEqual(inUse(LOOPBACK));
  expect(await run(`udp_remote.ts server -p ${peer.port}`)).toEqual(inUse("0.0.0.0"));
  expect(await run(`udp_broadcast.ts server -p ${peer.port}`)).toEqual(inUse("0.0.0.0"));
  for (const script of ["udp_remote.ts", "udp_broadcast.ts"]) {
    const line = "Cannot listen at ('192.0.2.99', 1060): not an address of this machine";
    expect(await run(`${script} server 192.0.2.99`)).toEqual(failed(line));
  }
});

networkTest("a port that the system keeps to itself, with advice where there is a -p", async (net) => {
  const host = await net.host("host");
  const nobody = { prefix: [...host.prefix, "unshare", "-U"] }; // Root may listen anywhere.
  const kept = (port: number) =>
    `Permission denied to listen at ('127.0.0.1', ${port}): the system keeps that port to itself`;
  const listing = "udp_remote.ts server 127.0.0.1 -p 999";
  expect(await run(listing, nobody)).toEqual(failed(`${kept(999)}, choose another port with -p`));
  host.sh("echo 2000 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
  const program = `import { fail } from "./terminal.ts";
    import { udpSocket } from "./udp_socket.ts";
    udpSocket({ hostname: "127.0.0.1", port: 1999 }).catch(fail);`;
  expect(await run(["-e", program], nobody)).toEqual(failed(kept(1999)));
});

test.each([
  ["a..b", "'a..b'", ""],
  ["a\x1b[2Jb", "'a\\x1b[2Jb'", ""],
  ["a\nb", "'a\\nb'", ""],
  ["é:1", "'\\xe9:1'", " (a host is named without a port)"],
  ["localhost:1060", "'localhost:1060'", " (a host is named without a port)"],
  ["http://127.0.0.1", "'http://127.0.0.1'", " (a host is named without a port)"],
])("a host that is unknown, or has a port: %j", async (host, quoted, hint) => {
  const scripts = ["udp_remote.ts server", "udp_broadcast.ts client", "udp_remote.ts client"];
  // Elsewhere big_sender looks for none.
  for (const script of notLinux === "" ? [...scripts, "big_sender.ts"] : scripts) {
    const { err, ...end } = await run([...script.split(" "), host]);
    expect(end).toEqual({ status: 1, out: "" });
    // Another code may say why, and a name server that is not there.
    const [unknown, why] = [err.replace("No name server answers for", "Unknown host"), /(?<=': )\w+/];
    expect(unknown.replace(why, "WHY")).toBe(`Unknown host ${quoted}: WHY${hint}\n`);
  }
});

test.each(["::1", "fe80::1%eth0", "::ffff:127.0.0.1"])("a host that is IPv6: %j", async (host) => {
  const line = `'${host}' looks like an IPv6 address: the listings speak IPv4`;
  for (const command of ["udp_remote.ts client", "udp_broadcast.ts server"]) {
    expect(await run(`${command} ${host}`)).toEqual(failed(line));
  }
});

test.skipIf(skips(notLinux))("a broadcast, for a script that does none", async () => {
  // It needs no route, and the connection is refused.
  const address = "127.255.255.255";
  expect(await run(`udp_remote.ts client ${address}`)).toEqual(failed(denied(address)));
  expect(await run(`big_sender.ts ${address}`)).toEqual(failed(denied(address)));
});

networkTest("a route that prohibits, swallows, or is not there", async (net) => {
  const host = await net.host("host");
  for (const [kind, network] of Object.entries({ prohibit: "20", blackhole: "21", unreachable: "22" })) {
    host.ip(`route add ${kind} ${network}.0.0.0/8`);
  }
  const cannot = (address: string, why: string) => `Cannot send to ('${address}', 1060): ${why}`;
  for (const [address, line] of [
    ["20.0.0.1", denied("20.0.0.1")],
    ["21.0.0.1", cannot("21.0.0.1", "EINVAL: invalid argument")],
    ["22.0.0.1", cannot("22.0.0.1", "EHOSTUNREACH: host is unreachable")],
    ["23.0.0.1", cannot("23.0.0.1", "ENETUNREACH: network is unreachable")],
  ] as const) {
    for (const script of ["udp_remote.ts client", "big_sender.ts"]) {
      expect(await run(`${script} ${address}`, host)).toEqual(failed(line));
    }
    const sent = line.replace(denied(address), denied(address, "a broadcast needs sock.setBroadcast(true)"));
    expect(await run(`udp_broadcast.ts client ${address}`, host)).toEqual(failed(sent));
  }
});

networkTest("no port that is free", async (net) => {
  const host = await net.host("host");
  host.sh("echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range");
  await using taken = await serve("udp_remote.ts server", host);
  expect(taken.port).toBe(40_000);
  const free = (address: string) => failed(`No port is free at ('${address}', 0)`);
  expect(await run("udp_local.ts client", host)).toEqual(free("0.0.0.0"));
  expect(await run("udp_remote.ts client", host)).toEqual(free("0.0.0.0"));
  expect(await run("udp_remote.ts server 127.0.0.1 -p 0", host)).toEqual(free(LOOPBACK));
});

networkTest("a request that cannot be sent, by the client of Listing 2-1", async (net) => {
  const { prefix } = await net.host("host");
  const nowhere = { prefix: [...prefix, "unshare", "-n"] }; // Its loopback is down.
  const err = "Cannot send to ('127.0.0.1', 1060): ENETUNREACH: network is unreachable";
  expect(await run("udp_local.ts client", nowhere)).toEqual(failed(err));
});

networkTest("a name that no name server is asked for, or knows", async (net) => {
  const { err } = await run("udp_remote.ts client no-such.example", await net.host("host"));
  expect(err).toMatch(
    /^(No name server answers for 'no-such.example': EAI_AGAIN|Unknown host 'no-such.example': ENOTFOUND)\n$/,
  );
});
