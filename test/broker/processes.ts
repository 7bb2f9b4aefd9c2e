// The kernel's facts about processes and the files they hold, for tests of lock holders; and a gate to wait at.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** A promise and the functions that settle it. */
export function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = () => {};
  const passed = new Promise<void>((done) => {
    open = done;
  });
  return { passed, open };
}

/** The target of each open descriptor of a process. Empty if there is no such process. */
export function openFilesOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

/** The processes that hold a file open. */
export function holdersOf(path: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => openFilesOf(pid).includes(path));
}

/** The inodes of all Unix sockets; node's pipes to its children are such sockets. */
export function unixSockets(): string[] {
  const lines = readFileSync("/proc/net/unix", "utf8").split("\n").slice(1);
  return lines.map((line) => `socket:[${line.trim().split(/\s+/)[6]}]`);
}
