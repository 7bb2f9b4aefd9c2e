// Small JSON files in which a process records its resources for later processes. A record may be stale: it is only a
// hint. A lock or an answer is the proof.

import { readFileSync } from "node:fs";
import { replaceFile } from "../files.ts";

/** Identifies a process. Pids are reused, especially after a reboot, so the pid alone is not enough. */
export type ProcessRecord = { readonly pid: number; readonly birth: string };

export type BrokerRecord = ProcessRecord & {
  readonly serverName: string;
  readonly host: string;
  /** 0 until the system has chosen one. */
  readonly port: number;
};

export function writeRecord(path: string, record: ProcessRecord | BrokerRecord): void {
  replaceFile(path, `${JSON.stringify(record)}\n`);
}

export function readProcessRecord(path: string): ProcessRecord | undefined {
  const { pid, birth } = readFields(path);
  return typeof pid === "number" && typeof birth === "string" ? { pid, birth } : undefined;
}

export function readBrokerRecord(path: string): BrokerRecord | undefined {
  const { serverName, host, port } = readFields(path);
  const process = readProcessRecord(path);
  if (process === undefined || typeof serverName !== "string" || typeof host !== "string") return undefined;
  return typeof port === "number" ? { ...process, serverName, host, port } : undefined;
}

/** When the process started, as the kernel reports it. Undefined if there is no such process or only a zombie. */
export function birthOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold any character. After it come the state and, as 20th field, the start in ticks.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const dead = ["Z", "X"].includes(fields[0] ?? "X");
    return dead ? undefined : `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}/${fields[19]}`;
  } catch {
    return undefined;
  }
}

export function isAlive(record: ProcessRecord): boolean {
  return birthOf(record.pid) === record.birth;
}

function readFields(path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
