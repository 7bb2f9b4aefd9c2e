// Which process listens on a port of this machine. Only Linux tells, and only about processes that this user may
// inspect.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { resultOr } from "../runtime/fault.ts";

/** `process 123 (node)`. Undefined if unknown. */
export function listenerAt(port: number): string | undefined {
  const sockets = new Set(["tcp", "tcp6"].flatMap((table) => listening(table, port)));
  if (sockets.size === 0) return undefined;
  for (const pid of entries("/proc").filter((name) => /^\d+$/.test(name))) {
    if (
      !entries(`/proc/${pid}/fd`).some((fd) => sockets.has(resultOr(() => readlinkSync(`/proc/${pid}/fd/${fd}`), "")))
    )
      continue;
    return `process ${pid} (${textOf(`/proc/${pid}/comm`).trim()})`;
  }
  return "a process of another user";
}

/** The sockets, in the form of file descriptor links. */
function listening(table: string, port: number): string[] {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return textOf(`/proc/net/${table}`)
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = "", , state]) => state === "0A" && local.endsWith(`:${hex}`))
    .map((fields) => `socket:[${fields[9]}]`);
}

function entries(folder: string): string[] {
  return resultOr(() => readdirSync(folder), []);
}

function textOf(path: string): string {
  return resultOr(() => readFileSync(path, "utf8"), "");
}
