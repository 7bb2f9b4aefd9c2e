// Reads how much CPU time and memory a service and its broker have used.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Of the service and of its broker: seconds of CPU time, peak megabytes. */
export function spentBy(pid: number | undefined): { name: string; cpu: number; mb: number }[] {
  const broker = execFileSync("pgrep", ["-P", String(pid), "nats-server"], { encoding: "utf8" }).trim();
  return Object.entries({ service: pid, "nats-server": broker }).map(([name, of]) => {
    const ticks = readFileSync(`/proc/${of}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${of}/status`, "utf8"))?.[1];
    return { name, cpu: (Number(ticks[11]) + Number(ticks[12])) / 100, mb: Number(peak) / 1024 };
  });
}
