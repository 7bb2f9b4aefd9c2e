// The compared ways of picking a proxy. Each worker process has one, calls it before every request, and reports the
// result afterwards.
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Limit } from "./target.ts";

export interface Picked {
  url: string;
  /** Milliseconds from the call within which the request must have been made. */
  leftMs: number;
  /** The result: a status, or a Node error code. */
  done(seen: { status?: number; error?: string }): void;
}

export interface Picking {
  /** undefined: no proxy is available before `deadline` (on performance.now()). */
  pick(deadline: number): Promise<Picked | undefined>;
  close(): Promise<void>;
}

export type PickingKind = "round-robin" | "counters" | "redis" | "remuda";

export interface PickingOptions extends Limit {
  proxies: string[];
  /** So that the workers of one contender do not all begin with the same proxy. */
  worker: number;
  redisPort?: number;
  natsUrl?: string;
}

const pauseMs = 20;
const none = { leftMs: 30_000, done: () => {} };

export async function openPicking(kind: PickingKind, options: PickingOptions): Promise<Picking> {
  switch (kind) {
    case "round-robin":
      return roundRobin(options);
    case "counters":
      return counters(options);
    case "redis":
      return redis(options);
    case "remuda":
      return remuda(options);
  }
}

/** Round robin, regardless of earlier results. */
function roundRobin({ proxies, worker }: PickingOptions): Picking {
  let next = worker;
  return {
    pick: async () => ({ url: proxies[next++ % proxies.length] ?? "", ...none }),
    close: async () => {},
  };
}

/** A sliding window over its own grants, in each process. It knows nothing of the other processes. */
function counters({ proxies, worker, limit, windowMs }: PickingOptions): Picking {
  const grants = proxies.map((url) => ({ url, at: [] as number[] }));
  let next = worker;
  const free = (now: number) => {
    for (let i = 0; i < grants.length; i++) {
      const one = grants[next++ % grants.length];
      if (one === undefined) continue;
      while ((one.at[0] ?? now) <= now - windowMs) one.at.shift();
      if (one.at.length < limit) return one;
    }
    return undefined;
  };
  return {
    pick: (deadline) =>
      untilFree(deadline, async (now) => {
        const one = free(now);
        one?.at.push(now);
        return one && { url: one.url, ...none };
      }),
    close: async () => {},
  };
}

/** A counter per proxy and window in Redis, shared by all processes, counted when the proxy is given out. */
async function redis({ proxies, worker, limit, windowMs, redisPort = 6379 }: PickingOptions): Promise<Picking> {
  const link = await redisAt(redisPort);
  let next = worker;
  return {
    pick: (deadline) =>
      untilFree(deadline, async () => {
        for (let i = 0; i < proxies.length; i++) {
          const url = proxies[next++ % proxies.length] ?? "";
          const key = `${url}/${Math.floor(Date.now() / windowMs)}`;
          const used = await link.send("INCR", key);
          if (used === 1) await link.send("PEXPIRE", key, String(2 * windowMs));
          if (used <= limit) return { url, ...none };
        }
        return undefined;
      }),
    close: async () => link.close(),
  };
}

/**
 * A lease of one use for each request, and an outcome for each lease. Over a restart the client repeats lease requests
 * and reports.
 */
async function remuda({ natsUrl }: PickingOptions): Promise<Picking> {
  const { connect: connectRemuda } = await import("../client/client.ts"); // The other kinds do not wait for it.
  const client = await connectRemuda({ natsUrl, retryMs: 60_000 });
  const reports = new Set<Promise<unknown>>();
  return {
    pick: (deadline) =>
      untilFree(deadline, async (now) => {
        const leftMs = Math.floor(deadline - now);
        const signal = AbortSignal.timeout(leftMs);
        const lease = await client.lease({ waitMs: Math.min(leftMs, 60_000) }, { signal }).catch(() => undefined);
        return (
          lease && {
            url: lease.url,
            leftMs: lease.endsAt - performance.now(),
            done: (seen) => {
              const report = client.report({ leaseId: lease.leaseId, n: 1, ...seen }).catch(() => {});
              reports.add(report);
              void report.then(() => reports.delete(report));
            },
          }
        );
      }),
    async close() {
      await Promise.all(reports);
      await client.close();
    },
  };
}

async function untilFree(
  deadline: number,
  ask: (now: number) => Promise<Picked | undefined>,
): Promise<Picked | undefined> {
  for (let now = performance.now(); now < deadline; now = performance.now()) {
    const picked = await ask(now);
    if (picked !== undefined) return picked;
    await sleep(pauseMs);
  }
  return undefined;
}

/** The part of Redis's protocol that two commands with integer replies need. */
async function redisAt(port: number): Promise<{ send(...words: string[]): Promise<number>; close(): void }> {
  const socket: Socket = connect(port, "127.0.0.1");
  const waiting: ((answer: number) => void)[] = [];
  let rest = "";
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\r\n");
    rest = lines.pop() ?? "";
    for (const line of lines) waiting.shift()?.(Number(line.slice(1)));
  });
  return {
    send: (...words) =>
      new Promise((resolve) => {
        waiting.push(resolve);
        socket.write(
          `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`,
        );
      }),
    close: () => void socket.end(),
  };
}
