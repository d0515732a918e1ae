/** Loaded before a script (--preload): a system that tells nobody its interfaces, as some sandboxes do. Linux only. */
import { dlopen, ptr } from "bun:ffi";

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const AF_NETLINK = 16;
const SYS_SOCKET = process.arch === "x64" ? 41 : 198;

// [code, jump if true, jump if false, value] of a BPF program: socket(AF_NETLINK, …) fails with EPERM.
const instructions = [
  [0x20, 0, 0, 0], // load the number of the system call
  [0x15, 0, 3, SYS_SOCKET],
  [0x20, 0, 0, 16], // load its first argument
  [0x15, 0, 1, AF_NETLINK],
  [0x06, 0, 0, 0x0005_0001], // fail with 1, EPERM
  [0x06, 0, 0, 0x7fff_0000], // allow
] as const;
const filter = Buffer.alloc(8 * instructions.length);
for (const [i, [code, yes, no, value]] of instructions.entries()) {
  filter.writeUInt16LE(code, 8 * i);
  filter[8 * i + 2] = yes;
  filter[8 * i + 3] = no;
  filter.writeUInt32LE(value, 8 * i + 4);
}
const program = Buffer.alloc(16); // struct sock_fprog
program.writeUInt16LE(instructions.length, 0);
program.writeBigUInt64LE(BigInt(ptr(filter)), 8);

const { symbols: libc } = dlopen("libc.so.6", {
  prctl: { args: ["int", "u64", "u64", "u64", "u64"], returns: "int" },
});
libc.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n);
if (libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, BigInt(ptr(program)), 0n, 0n) !== 0) throw new Error("no seccomp");
