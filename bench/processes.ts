// Reads how much CPU time, memory and disk a service and its broker have used.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { resultOr } from "../runtime/fault.ts";

/** Seconds of CPU time of a process and of its children that have ended. */
export function cpuOf(pid: number | undefined): number {
  const ticks = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ticks.slice(11, 15).reduce((sum, each) => sum + Number(each), 0) / 100;
}

/** Of the service and of its broker: seconds of CPU time, peak megabytes. */
export function spentBy(pid: number | undefined): { name: string; cpu: number; mb: number }[] {
  const broker = execFileSync("pgrep", ["-P", String(pid), "nats-server"], { encoding: "utf8" }).trim();
  return Object.entries({ service: pid, "nats-server": broker }).map(([name, of]) => {
    const ticks = readFileSync(`/proc/${of}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${of}/status`, "utf8"))?.[1];
    return { name, cpu: (Number(ticks[11]) + Number(ticks[12])) / 100, mb: Number(peak) / 1024 };
  });
}

/** Of the files under folders with this name, or of all. */
export function bytesIn(folder: string, name: string): number {
  const files = resultOr(() => readdirSync(folder, { recursive: true, withFileTypes: true }), []);
  return files
    .filter((file) => file.isFile() && file.parentPath.includes(name))
    .reduce((sum, file) => sum + (statSync(join(file.parentPath, file.name), { throwIfNoEntry: false })?.size ?? 0), 0);
}
