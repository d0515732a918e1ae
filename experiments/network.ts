/**
 * Networks on one Linux machine: hosts, links between them and addresses, in network namespaces, without root. They vanish
 * with the process that holds them, and nothing in them can reach another machine.
 */
import { existsSync, readFileSync } from "node:fs";

/** Why this system lets us make no networks, and what would, or `""` where it does. */
export const forbidden = whyForbidden();

function whyForbidden(): string {
  if (process.platform !== "linux") return "only Linux has network namespaces";
  for (const [tool, bringer] of Object.entries({ unshare: "util-linux", nsenter: "util-linux", ip: "iproute2" })) {
    if (Bun.which(tool) === null) return `there is no ${tool} here, which the package ${bringer} brings`;
  }
  const all = "ip link set lo up && ip link add veth0 type veth peer name veth1 && ip link add br0 type bridge";
  const { exitCode, stderr } = Bun.spawnSync(["unshare", "-Urn", "sh", "-c", all]);
  if (exitCode === 0) return "";
  const why = `unshare -Urn fails: ${stderr.toString().trim().replaceAll("\n", "; ")}`;
  // What forbids them to ordinary users, on Ubuntu, on Debian and everywhere; and in containers.
  for (const [sysctl, bad, good] of [
    ["kernel.apparmor_restrict_unprivileged_userns", "1", "0"],
    ["kernel.unprivileged_userns_clone", "0", "1"],
    ["user.max_user_namespaces", "0", "10000"],
  ] as const) {
    const file = `/proc/sys/${sysctl.replaceAll(".", "/")}`;
    if (existsSync(file) && readFileSync(file, "latin1").trim() === bad) {
      return `${why}; sudo sysctl ${sysctl}=${good} allows it`;
    }
  }
  return `${why}; a container needs docker run --privileged`;
}

/** A host: an empty network namespace with a loopback interface. */
export class Host {
  readonly prefix: string[];
  constructor(
    readonly name: string,
    readonly pid: number,
  ) {
    this.prefix = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", String(pid)];
  }

  /** Runs `ip` on this host: `host.ip("route add default via 10.0.0.1")`. */
  ip(words: string): void {
    this.sh(`ip ${words}`);
  }

  /** Makes this host a router. */
  forward(): void {
    this.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
  }

  /** Runs a shell command on this host. */
  sh(command: string): void {
    const { exitCode, stderr } = Bun.spawnSync([...this.prefix, "sh", "-c", command]);
    if (exitCode !== 0) throw new Error(`${this.name}: ${command}: ${stderr}`);
  }
}

/** One end of a link: a host, the interface's name on it, and its address, as `10.0.0.1/24`. */
export type End = [host: Host, name: string, address?: string];

/** Some hosts, on their own; `await using` removes them, with all their links and what was given to `use`. */
export class Network implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  #user = 0;

  static async create(): Promise<Network> {
    const network = new Network();
    network.#user = await network.#hold(["unshare", "-Urn"]);
    return network;
  }

  /** Starts a process that does nothing but hold a namespace, until its input is closed, and returns its PID. */
  async #hold(command: string[]): Promise<number> {
    // It says "held" once it is in its namespace.
    const script = "echo held; exec cat >/dev/null";
    const holder = Bun.spawn([...command, "sh", "-c", script], { stdin: "pipe", stdout: "pipe" });
    this.#stack.use(holder);
    const { value } = await holder.stdout.getReader().read();
    if (value === undefined) throw new Error(`cannot make a namespace: ${command.join(" ")}`);
    return holder.pid;
  }

  /** Has something end with the network, such as a process on a host. */
  use<Thing extends AsyncDisposable>(thing: Thing): Thing {
    return this.#stack.use(thing);
  }

  /** Adds a host. */
  async host(name: string): Promise<Host> {
    const user = ["nsenter", "--preserve-credentials", "-U", "-t", String(this.#user)];
    const host = new Host(name, await this.#hold([...user, "unshare", "-n"]));
    host.ip("link set lo up");
    return host;
  }

  /** Lays a cable between two hosts. */
  link(a: End, b: End, mtu = 1500): void {
    a[0].ip(`link add ${a[1]} mtu ${mtu} type veth peer name ${b[1]} mtu ${mtu} netns ${b[0].pid}`);
    for (const [host, name, address] of [a, b]) {
      if (address !== undefined) host.ip(`addr add ${address} brd + dev ${name}`);
      host.ip(`link set ${name} up`);
    }
  }

  /** Connects hosts to one switch. */
  async subnet(ends: End[]): Promise<void> {
    const bridge = await this.host("switch");
    bridge.ip("link add bridge type bridge");
    bridge.ip("link set bridge up");
    for (const [i, end] of ends.entries()) {
      this.link(end, [bridge, `port${i}`]);
      bridge.ip(`link set port${i} master bridge`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** alice with bob in 192.168.5.0/24 and with carol in 172.16.32.0/20. */
export async function threeHosts(net: Network): Promise<[Host, Host, Host]> {
  const [alice, bob, carol] = [await net.host("alice"), await net.host("bob"), await net.host("carol")];
  net.link([alice, "eth0", "192.168.5.10/24"], [bob, "eth0", "192.168.5.11/24"]);
  net.link([alice, "eth1", "172.16.32.1/20"], [carol, "eth0", "172.16.40.1/20"]);
  return [alice, bob, carol];
}
