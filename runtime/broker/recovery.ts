// Waits for a server that reads its store. After a kill a large store takes minutes, and a server that is ended
// meanwhile begins again. So there is no time limit for a server that works. It is given up only if it has used no CPU,
// and has neither read nor written, for a while.
import { readFileSync } from "node:fs";
import { resultOr } from "../fault.ts";

export interface Work {
  /** User and system time, ms. */
  cpuMs: number;
  /** Read and written, from whatever file. */
  bytes: number;
}

/** An idle server's own timers take a tenth of this. */
const cpuShareMin = 0.01;
const bytesMin = 1024 ** 2;
const sayEveryMs = 5_000;
const MiB = 1024 ** 2;
/** The kernel counts in hundredths of a second on every Linux. */
const msPerTick = 10;

export class Recovery {
  readonly #idleMsMax: number;
  readonly #since: number;
  /** The last moment when it was seen to work, and how much it had done by then. */
  #worked: { on: number; work: Work };
  #saidOn: number;

  /** @param idleMsMax after this long without work it is given up. @param now on a monotonic clock, ms. */
  constructor(idleMsMax: number, now: number) {
    this.#idleMsMax = idleMsMax;
    this.#since = now;
    this.#worked = { on: now, work: { cpuMs: 0, bytes: 0 } };
    this.#saidOn = now;
  }

  /** Looks at the server. `say`: a line for the user. `isOver`: it is to be given up. */
  look(work: Work, now: number): { say?: string; isOver: boolean } {
    const { cpuMs, bytes } = this.#worked.work;
    const isWorking = work.cpuMs - cpuMs >= this.#idleMsMax * cpuShareMin || work.bytes - bytes >= bytesMin;
    if (isWorking) this.#worked = { on: now, work };
    const isOver = now - this.#worked.on >= this.#idleMsMax;
    if (isOver || now - this.#saidOn < sayEveryMs) return { isOver };
    this.#saidOn = now;
    return { isOver, say: this.#line(work, now) };
  }

  #line(work: Work, now: number): string {
    const seconds = Math.round((now - this.#since) / 1000);
    const idle = Math.round((now - this.#worked.on) / 1000);
    const done = `${(work.cpuMs / 1000).toFixed(1)} s of CPU, ${Math.round(work.bytes / MiB)} MiB read and written`;
    const isIdle = now - this.#worked.on >= sayEveryMs;
    return `nats-server is not ready after ${seconds} s. ${isIdle ? `It has done nothing for ${idle} s` : `It is working (${done})`}`;
  }
}

/** The work of the process since its start. Zeros: the process is gone, or the kernel does not tell. */
export function workOf(pid: number): Work {
  const read = (file: string): string => resultOr(() => readFileSync(`/proc/${pid}/${file}`, "utf8"), "");
  const stat = read("stat");
  // The name, in parentheses, may hold any character. After it come the state and, as 12th and 13th field, the times.
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13)
    .map(Number);
  const counts = read("io").matchAll(/^(?:rchar|wchar|read_bytes|write_bytes): (\d+)$/gm);
  const bytes = [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  return { cpuMs: (user + system) * msPerTick, bytes };
}
