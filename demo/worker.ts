// One worker process. Jobs come at a steady pace whether or not there is a proxy for them. Each waits its turn, takes a
// proxy, and makes one request through it. The worker reports its counts to its parent four times a second.
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { leaveParent, tellParent } from "./parent.ts";
import { openPicking, type Picked, type PickingKind, type PickingOptions } from "./picking.ts";
import { randomOf } from "./random.ts";

export interface WorkerTask extends PickingOptions {
  kind: PickingKind;
  targetUrl: string;
  /** Jobs per second, on average. */
  pace: number;
  forMs: number;
  seed: number;
}

export interface WorkerTally {
  jobs: number;
  served: number;
  rejected: number;
  failed: number;
  /** Jobs that wait for a proxy now, or got none. */
  waiting: number;
  /** How long jobs since the last tally waited for a proxy, in milliseconds. */
  waitsMs: number[];
  /** The last message of this worker. */
  ended?: true;
}

const requestMsMax = 10_000;

process.once("message", (task: WorkerTask) => void work(task));
process.once("disconnect", () => process.exit()); // The parent is gone.

async function work(task: WorkerTask): Promise<void> {
  const picking = await openPicking(task.kind, task);
  const agents = new Map<string, Agent>();
  const tally = { jobs: 0, served: 0, rejected: 0, failed: 0, waiting: 0 };
  let waitsMs: number[] = [];
  const tell = (last: { ended?: true } = {}) => {
    tellParent({ ...tally, ...last, waitsMs } satisfies WorkerTally);
    waitsMs = [];
  };
  tellParent("ready");
  await new Promise((go) => process.once("message", go));

  const startedAt = performance.now();
  const deadline = startedAt + task.forMs;
  const telling = setInterval(tell, 250);
  const chance = randomOf(task.seed);
  const open = new Set<Promise<void>>();
  for (let dueAt = startedAt; dueAt < deadline; dueAt += (chance() * 2000) / task.pace) {
    const earlyMs = dueAt - performance.now();
    if (earlyMs > 1) await sleep(earlyMs);
    const job = doJob(dueAt).finally(() => open.delete(job));
    open.add(job);
  }
  await Promise.all(open);
  clearInterval(telling);
  tell({ ended: true });
  await picking.close();
  leaveParent();

  async function doJob(dueAt: number): Promise<void> {
    tally.jobs += 1;
    tally.waiting += 1;
    const picked = await picking.pick(deadline);
    if (picked === undefined) return; // The demo ended first.
    tally.waiting -= 1;
    waitsMs.push(Math.round(performance.now() - dueAt));
    const agent = agents.get(picked.url) ?? new Agent({ keepAlive: true });
    agents.set(picked.url, agent);
    const seen = await get(task.targetUrl, { through: picked, agent });
    picked.done(seen);
    if (seen.status === 200) tally.served += 1;
    else if (seen.status === 403) tally.rejected += 1;
    else tally.failed += 1;
  }
}

function get(
  url: string,
  { through: { url: proxyUrl, leftMs }, agent }: { through: Picked; agent: Agent },
): Promise<{ status?: number; error?: string }> {
  const proxy = new URL(proxyUrl);
  const signal = AbortSignal.timeout(Math.max(1, Math.floor(Math.min(leftMs, requestMsMax))));
  const options = {
    host: proxy.hostname,
    port: proxy.port,
    path: url,
    headers: { host: new URL(url).host },
    agent,
    signal,
  };
  return new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.name });
    request(options, (reply) => {
      reply.resume().once("error", failed);
      reply.once("end", () => resolve({ status: reply.statusCode ?? 0 }));
    })
      .once("error", failed)
      .end();
  });
}
