// A client process of `million`. It leases from one pool over NATS and reports each lease, `depth` at a time, for a
// given time or until it is stopped. It ends with the number of leases, and how long each took.
import { fork } from "node:child_process";
import { connect } from "@nats-io/transport-node";
import { readNatsUrl } from "../runtime/nats-url.ts";

export interface Loaded {
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

export function startLoad(given: { url: string; pool: string; depth: number; ms: number; pauseMs?: number }): Load {
  const child = fork(new URL(import.meta.url), ["load", JSON.stringify(given)], { execArgv: [] });
  const done = new Promise<Loaded>((resolve, reject) => {
    child.once("message", (result) => resolve(result as Loaded)); // Sent below.
    child.once("exit", (code) => code !== 0 && reject(new Error(`a client ended with ${code}`)));
  });
  return { done, stop: () => void child.send("stop") };
}

async function load(given: { url: string; pool: string; depth: number; ms: number; pauseMs?: number }): Promise<void> {
  const { url, pool, depth, ms, pauseMs } = given;
  const nc = await connect({ ...readNatsUrl(url), noAsyncTraces: true });
  const times: number[] = [];
  let isOver = false;
  process.once("message", () => {
    isOver = true;
  });
  const startedOn = performance.now();
  const loop = async (): Promise<void> => {
    while (!isOver && performance.now() - startedOn < ms) {
      const sentOn = performance.now();
      const reply = await nc.request(`remuda.lease.${pool}`, "{}", { timeout: 60_000 });
      times.push(performance.now() - sentOn);
      const lease = reply.json<{ leaseId?: string; code?: string; message?: string }>();
      if (lease.leaseId === undefined) throw new Error(`refused: ${lease.code}: ${lease.message}`);
      nc.publish(`remuda.outcome.${pool}`, `{"leaseId":"${lease.leaseId}","status":200}`);
      if (pauseMs !== undefined) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  const perSecond = (times.length * 1000) / (performance.now() - startedOn);
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  process.send?.({ count: times.length, perSecond, p50: at(0.5), p99: at(0.99), max: at(1) } satisfies Loaded);
  await nc.close();
  process.disconnect();
}

const [role, given] = process.argv.slice(2);
if (role === "load" && given !== undefined) await load(JSON.parse(given));
