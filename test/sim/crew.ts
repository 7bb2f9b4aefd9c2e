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
  shrinkMs?: number | undefined;
  /** Called after each run. False stops the search. */
  onRun(told: Told): boolean;
}

/**
 * They have loaded the packages and some faults, and wait for the next work. They do not keep the process alive.
 */
const idle: { worker: Worker; loaded: Set<string | undefined> }[] = [];

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
    const at = idle.findLastIndex(({ loaded }) => loaded.has(work.fault));
    const thread = idle.splice(at, 1)[0] ?? { worker: begin(), loaded: new Set() }; // The last one if none has the fault.
    const { worker } = thread;
    worker.ref();
    try {
      await new Promise<void>((resolve, reject) => {
        const order = (): void => {
          const seed = next();
          if (seed === undefined) return resolve();
          const { fault, alone, shrinkMs = 0 } = work;
          worker.postMessage({ seed, fault, alone, shrinkMs } satisfies Order);
        };
        worker.on("error", reject);
        worker.on("message", (told: Told) => {
          if (goesOn && !work.onRun(told)) goesOn = false;
          order();
        });
        order();
      });
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    worker.removeAllListeners("error").removeAllListeners("message").unref();
    thread.loaded.add(work.fault);
    idle.push(thread);
  }
}

function begin(): Worker {
  // The warning is about `stripTypeScriptTypes` alone.
  return new Worker(new URL("./thread.ts", import.meta.url), { execArgv: ["--disable-warning=ExperimentalWarning"] });
}
