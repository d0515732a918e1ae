/** Loaded before a script (--preload): a system that tells nobody its interfaces, as some sandboxes do. Linux only. */
import { dlopen, ptr } from "bun:ffi";

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const AF_NETLINK = 16;
const SYS_SOCKET = process.arch === "x64" ? 41 : 198;

// A BPF program, code | jump if true << 16 | jump if false << 24 and a value: socket(AF_NETLINK, …) fails with EPERM.
const filter = Uint32Array.of(
  ...[0x20, 0], // load the number of the system call
  ...[0x0300_0015, SYS_SOCKET], // another one: go on at the last line
  ...[0x20, 16], // load its first argument
  ...[0x0100_0015, AF_NETLINK],
  ...[0x06, 0x0005_0001], // fail with 1, EPERM
  ...[0x06, 0x7fff_0000], // allow
);
const program = BigUint64Array.of(BigInt(filter.length / 2), BigInt(ptr(filter))); // struct sock_fprog
const { prctl } = dlopen("libc.so.6", { prctl: { args: ["int", "u64", "ptr", "u64", "u64"], returns: "int" } }).symbols;
prctl(PR_SET_NO_NEW_PRIVS, 1, null, 0, 0);
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) !== 0) throw new Error("no seccomp");
