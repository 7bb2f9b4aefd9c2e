// A client process of a benchmark. It sends requests over NATS, `depth` at a time, for a given time or until it is
// stopped. It ends with the number of answers, and how long each took.
import { fork } from "node:child_process";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { leaveParent, tellParent } from "../demo/parent.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";

interface LoadOptions {
  url: string;
  pool: string;
  depth: number;
  ms: number;
  pauseMs?: number;
  /** `reported`: each lease in a message of its own. `reported together`: those of a few milliseconds in one. */
  kind?: "echo" | "lease" | "reported" | "reported together";
}

interface Loaded {
  count: number;
  perSecond: number;
  p50: number;
  p99: number;
  max: number;
}

export interface Load {
  /** Resolves when it has ended. */
  done: Promise<Loaded>;
  stop(): void;
}

/** Fewer than the thousand that one message may have. */
const collectMs = 5;

/** The default is leases that are reported. */
export function startLoad(options: LoadOptions): Load {
  const child = fork(new URL(import.meta.url), ["load", JSON.stringify(options)], { execArgv: [] });
  const done = new Promise<Loaded>((resolve, reject) => {
    child.once("message", (result) => resolve(result as Loaded)); // Sent below.
    child.once("exit", (code) => code !== 0 && reject(new Error(`a client ended with ${code}`)));
  });
  return { done, stop: () => void child.send("stop", () => {}) };
}

async function load({ url, pool, depth, ms, pauseMs, kind = "reported" }: LoadOptions): Promise<void> {
  const nc = await connect({ ...readNatsUrl(url), noAsyncTraces: true });
  const report = kind === "reported together" ? inBatches(nc, pool) : (outcome: string) => publish(nc, pool, outcome);
  const times: number[] = [];
  let isOver = false;
  process.once("message", () => {
    isOver = true;
  });
  const startedOn = performance.now();
  const loop = async (): Promise<void> => {
    while (!isOver && performance.now() - startedOn < ms) {
      const sentOn = performance.now();
      const subject = kind === "echo" ? "bench.echo" : `remuda.lease.${pool}`;
      const reply = await nc.request(subject, "{}", { timeout: 60_000 });
      times.push(performance.now() - sentOn);
      if (kind === "echo") continue;
      const lease = reply.json<{ leaseId?: string; code?: string; message?: string }>();
      if (lease.leaseId === undefined) throw new Error(`refused: ${lease.code}: ${lease.message}`);
      if (kind !== "lease") report(`{"leaseId":"${lease.leaseId}","status":200}`);
      if (pauseMs !== undefined) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  const perSecond = (times.length * 1000) / (performance.now() - startedOn);
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  tellParent({ count: times.length, perSecond, p50: at(0.5), p99: at(0.99), max: at(1) } satisfies Loaded);
  await nc.close();
  leaveParent();
}

function publish(nc: NatsConnection, pool: string, body: string): void {
  if (!nc.isClosed()) nc.publish(`remuda.outcome.${pool}`, body);
}

/** As a worker with many leases reports. */
function inBatches(nc: NatsConnection, pool: string): (outcome: string) => void {
  const outcomes: string[] = [];
  return (outcome) => {
    if (outcomes.push(outcome) > 1) return;
    setTimeout(() => publish(nc, pool, `[${outcomes.splice(0).join(",")}]`), collectMs);
  };
}

const [role, options] = process.argv.slice(2);
if (role === "load" && options !== undefined) await load(JSON.parse(options));
