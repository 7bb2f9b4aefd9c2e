// A client process of a benchmark. It sends requests over NATS (or to Redis), `depth` at a time, for a given time or
// until it is stopped. It ends with the number of answers, and how long each took.
import { fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { leaveParent, tellParent } from "../demo/parent.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";
import { type Channel, redisChannel } from "./redis.ts";

export interface LoadOptions {
  url: string;
  pool: string;
  /** The requests go to this many pools in turn: `<pool>0`, `<pool>1`, … */
  pools?: number;
  depth: number;
  ms: number;
  pauseMs?: number;
  kind?: Kind;
}

/**
 * `reported`: each lease in a message of its own. `reported together`: those of a few milliseconds in one. `block`:
 * leases of 30 uses, each with its outcomes in one message. `count`: 16 leases in a request.
 */
export type Kind =
  | "echo"
  | "lease"
  | "reported"
  | "reported together"
  | "block"
  | "count"
  | "redis lease"
  | "redis cycle";

interface Loaded {
  /** Answers; with `block` uses, with `count` leases. */
  count: number;
  perSecond: number;
  p50: number;
  p99: number;
  max: number;
  /** Seconds of CPU time. */
  cpu: number;
}

export interface Load {
  /** Resolves when it has ended. */
  done: Promise<Loaded>;
  stop(): void;
}

/** Fewer than the thousand that one message may have. */
const collectMs = 5;
const usesPerBlock = 30;
const leasesPerCount = 16;
const bodies: Record<string, string> = { block: `{"uses":${usesPerBlock}}`, count: `{"count":${leasesPerCount}}` };

/** The default is leases that are reported. */
export function startLoad(options: LoadOptions): Load {
  const child = fork(new URL(import.meta.url), ["load", JSON.stringify(options)], { execArgv: [] });
  const done = new Promise<Loaded>((resolve, reject) => {
    child.once("message", (result) => resolve(result as Loaded)); // Sent below.
    child.once("exit", (code) => code !== 0 && reject(new Error(`a client ended with ${code}`)));
  });
  return { done, stop: () => void child.send("stop", () => {}) };
}

async function load(options: LoadOptions): Promise<void> {
  const { url, pool, pools, depth, ms, pauseMs, kind = "reported" } = options;
  const channel = await (kind.startsWith("redis")
    ? redisChannel(url, { isReported: kind === "redis cycle" })
    : natsChannel(options));
  const times: number[] = [];
  let count = 0;
  let isOver = false;
  process.once("message", () => {
    isOver = true;
  });
  const startedOn = performance.now();
  const before = process.cpuUsage();
  const loop = async (_: unknown, i: number): Promise<void> => {
    for (let n = i; !isOver && performance.now() - startedOn < ms; n++) {
      const sentOn = performance.now();
      const units = await channel.ask(pools === undefined ? pool : `${pool}${n % pools}`);
      count += units; // Other loops add to it during the await.
      times.push(performance.now() - sentOn);
      if (pauseMs !== undefined) await sleep(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  const perSecond = (count * 1000) / (performance.now() - startedOn);
  const { user, system } = process.cpuUsage(before);
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  await channel.close();
  const cpu = (user + system) / 1e6;
  tellParent({ count, perSecond, p50: at(0.5), p99: at(0.99), max: at(1), cpu } satisfies Loaded);
  leaveParent();
}

async function natsChannel({ url, kind = "reported" }: LoadOptions): Promise<Channel> {
  const nc = await connect({ ...readNatsUrl(url), noAsyncTraces: true });
  const batches = new Map<string, (outcome: string) => void>();
  const together = (pool: string): ((outcome: string) => void) => {
    const batch = batches.get(pool) ?? inBatches(nc, pool);
    batches.set(pool, batch);
    return batch;
  };
  const body = bodies[kind] ?? "{}";
  return {
    async ask(pool) {
      const subject = kind === "echo" ? "bench.echo" : `remuda.lease.${pool}`;
      const reply = await nc.request(subject, body, { timeout: 60_000 });
      if (kind === "echo") return 1;
      const lease = reply.json<{ leaseId?: string; leases?: unknown[]; code?: string; message?: string }>();
      if (lease.leases !== undefined) return lease.leases.length;
      if (lease.leaseId === undefined) throw new Error(`refused: ${lease.code}: ${lease.message}`);
      if (kind === "reported") publish(nc, pool, outcome(lease.leaseId));
      if (kind === "reported together") together(pool)(outcome(lease.leaseId));
      if (kind !== "block") return 1;
      const outcomes = Array.from({ length: usesPerBlock }, (_, i) => outcome(lease.leaseId, i + 1));
      publish(nc, pool, `[${outcomes.join(",")}]`);
      return usesPerBlock;
    },
    async close() {
      await sleep(2 * collectMs);
      await nc.drain();
    },
  };
}

function outcome(leaseId = "", n = 1): string {
  return `{"leaseId":"${leaseId}","n":${n},"status":200}`;
}

function publish(nc: NatsConnection, pool: string, body: string): void {
  if (!nc.isClosed() && !nc.isDraining()) nc.publish(`remuda.outcome.${pool}`, body);
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
