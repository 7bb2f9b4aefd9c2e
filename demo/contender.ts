// One way of picking under load: its own proxies, its own target, and worker processes that share both.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { PickingKind } from "./picking.ts";
import { startProxies } from "./proxies.ts";
import { type DemoTarget, type Limit, startDemoTarget, type TargetCounts } from "./target.ts";
import type { WorkerTally, WorkerTask } from "./worker.ts";

export interface Load extends Limit {
  proxies: number;
  workers: number;
  /** Jobs per second of all workers together. */
  pace: number;
  forMs: number;
  seed: number;
}

export interface ContenderResult extends TargetCounts {
  kind: PickingKind;
  /** Requests that never reached the target. */
  failed: number;
  waiting: number;
  waitsMs: number[];
}

export interface Contender {
  readonly kind: PickingKind;
  readonly proxyUrls: string[];
  result(): ContenderResult;
  /** Starts the load. Settles when it is over. */
  run(): Promise<void>;
  stop(): void;
}

/** Starts the contender, with its workers waiting for the start signal. `given` is called once the proxies run. */
export async function startContender(
  kind: PickingKind,
  load: Load & { block: number },
  given: (proxyUrls: string[]) => Promise<{ redisPort?: number; natsUrl?: string }>,
): Promise<Contender> {
  const { proxies: count, block, seed, limit, windowMs } = load;
  const proxies = await startProxies({ count, block, seed });
  const target = await startDemoTarget({ limit, windowMs });
  const children: ChildProcess[] = [];
  const stop = () => {
    for (const child of children) child.kill("SIGKILL");
    proxies.stop();
    target.stop();
  };
  try {
    const proxyUrls = proxies.proxies.map(({ url }) => url);
    const backing = await given(proxyUrls);
    for (let worker = 0; worker < load.workers; worker++) {
      const child = fork(fileURLToPath(new URL("worker.ts", import.meta.url)), {
        stdio: ["ignore", "ignore", "inherit", "ipc"],
      });
      children.push(child);
      const task: WorkerTask = {
        ...{ kind, proxies: proxyUrls, worker, limit, windowMs, ...backing },
        targetUrl: target.url,
        pace: load.pace / load.workers,
        forMs: load.forMs,
        seed: seed * 100 + worker,
      };
      child.send(task, ignored);
    }
    await Promise.all(children.map((child) => firstMessage(child)));
    return contenderOf(kind, { proxyUrls, children, target, stop });
  } catch (error) {
    stop();
    throw error;
  }
}

function contenderOf(
  kind: PickingKind,
  {
    proxyUrls,
    children,
    target,
    stop,
  }: { proxyUrls: string[]; children: ChildProcess[]; target: DemoTarget; stop(): void },
): Contender {
  const tallies = new Map<ChildProcess, WorkerTally>();
  const waitsMs: number[] = [];
  const sum = (of: (tally: WorkerTally) => number) => [...tallies.values()].reduce((all, each) => all + of(each), 0);
  return {
    kind,
    proxyUrls,
    result: () => ({
      kind,
      ...target.seen(),
      failed: sum(({ failed }) => failed),
      waiting: sum(({ waiting }) => waiting),
      waitsMs,
    }),
    async run() {
      await Promise.all(
        children.map(async (child) => {
          child.on("message", (tally: WorkerTally) => {
            tallies.set(child, tally);
            waitsMs.push(...tally.waitsMs);
          });
          const ended = once(child, "exit");
          child.send("go", ignored);
          await ended;
          if (tallies.get(child)?.ended !== true) throw new Error(`a worker of ${kind} died`);
        }),
      );
    },
    stop,
  };
}

/** A worker that has ended is noticed by its exit. */
const ignored = (): void => {};

async function firstMessage(child: ChildProcess): Promise<void> {
  const died = once(child, "exit").then(([code]) => {
    throw new Error(`a worker ended before it began (exit ${code})`);
  });
  await Promise.race([once(child, "message"), died]);
}
