// Runs many seeds on several threads.
import { Worker } from "node:worker_threads";
import type { Checker } from "./court.ts";
import type { Order, Told } from "./thread.ts";

export interface Work {
  seeds: Iterable<number>;
  threads: number;
  fault?: string | undefined;
  /** Ignore the findings of all other checkers. */
  alone?: Checker | undefined;
  /** The time for shrinking the first finding. */
  shrinkMs?: number;
  /** Called after each run. False stops the search. */
  onRun(told: Told): boolean;
}

/** @throws if a thread cannot load the service, for example because a fault's text is not in its source. */
export async function runSeeds(work: Work): Promise<void> {
  const seeds = work.seeds[Symbol.iterator]();
  let goesOn = true;
  const next = (): number | undefined => {
    if (!goesOn) return undefined;
    const { done, value } = seeds.next();
    return done === true ? undefined : value;
  };
  await Promise.all(Array.from({ length: work.threads }, () => runThread()));

  async function runThread(): Promise<void> {
    const worker = new Worker(new URL("./thread.ts", import.meta.url), {
      workerData: { fault: work.fault, alone: work.alone },
    });
    try {
      await new Promise<void>((resolve, reject) => {
        const order = (): void => {
          const seed = next();
          if (seed === undefined) return resolve();
          worker.postMessage({ seed, shrinkMs: work.shrinkMs ?? 0 } satisfies Order);
        };
        worker.on("error", reject);
        worker.on("message", (told: Told) => {
          if (goesOn && !work.onRun(told)) goesOn = false;
          order();
        });
        order();
      });
    } finally {
      await worker.terminate();
    }
  }
}
