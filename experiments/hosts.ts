#!/usr/bin/env bun
/**
 * Three hosts on this Linux machine, without root: `bun experiments/hosts.ts`, and paste what stands behind a host's name into
 * another terminal, where it opens a shell on that host. They vanish with Ctrl-C.
 *
 *     bob 192.168.5.11 ---- 192.168.5.10 alice 172.16.32.1 ---- 172.16.40.1 carol
 *
 * alice is a router between the others; her link to carol carries packets of up to 1400 bytes.
 */
import { Failure, fail, print } from "../terminal.ts";
import { forbidden, Network, threeHosts } from "./network.ts";

async function hosts(): Promise<void> {
  if (forbidden !== "") throw new Failure(`No hosts can be made here: ${forbidden}`);
  const net = await Network.create();
  const [alice, bob, carol] = await threeHosts(net);
  alice.forward();
  alice.ip("link set eth1 mtu 1400");
  carol.ip("link set eth0 mtu 1400");
  bob.ip("route add default via 192.168.5.10");
  carol.ip("route add default via 172.16.32.1");
  const addresses = ["192.168.5.10, 172.16.32.1", "192.168.5.11", "172.16.40.1"];
  const shell = Bun.which("bash") === null ? "sh" : "bash --norc";
  for (const [i, { name, prefix }] of [alice, bob, carol].entries()) {
    print(`${name}  ${addresses[i]}  ${prefix.join(" ")} env PS1='${name}$ ' ${shell}`);
  }
}

hosts().catch(fail);
