// Outcomes on their way to the ledger: collected for a few milliseconds, sent in batches of at most a thousand, one batch
// at a time per pool, and again while the service is away. Bounded: what does not fit, or cannot be delivered within the
// asker's time, is dropped and told; its uses then count as unreported, which keeps every limit.
import type { Ask } from "./ask.ts";
import { RemudaFault } from "./fault.ts";
import type { Outcome, ReportReply } from "./wire.ts";

const batchMax = 1000;
const collectMs = 5;
const waitingMax = 100_000;

interface Waiting {
  outcome: Outcome;
  done: () => void;
}

export interface OutcomesOptions {
  ask: Ask;
  /** The service names leases whose proxy has begun to rest. */
  onStop: (leaseId: string) => void;
  onProblem: (problem: Error) => void;
}

export class Outcomes {
  readonly #options: OutcomesOptions;
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #sending = new Map<string, Promise<void>>();
  #count = 0;

  constructor(options: OutcomesOptions) {
    this.#options = options;
  }

  /** Resolves when it is in the ledger, or given up; never rejects. */
  report(pool: string, outcome: Outcome): Promise<void> {
    if (this.#count >= waitingMax) {
      this.#options.onProblem(new RemudaFault("report-lost", `${waitingMax} outcomes wait already: one was dropped.`));
      return Promise.resolve();
    }
    return new Promise((done) => {
      const waiting = this.#waiting.get(pool) ?? [];
      this.#waiting.set(pool, waiting);
      waiting.push({ outcome, done });
      this.#count += 1;
      if (!this.#sending.has(pool)) {
        const sending = this.#send(pool, waiting);
        this.#sending.set(pool, sending);
      }
    });
  }

  /** Resolves when all that was reported until now is delivered or given up. */
  async flush(): Promise<void> {
    await Promise.all(this.#sending.values());
  }

  async #send(pool: string, waiting: Waiting[]): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, collectMs));
    while (waiting.length > 0) {
      const batch = waiting.splice(0, batchMax);
      try {
        const outcomes = batch.map(({ outcome }) => outcome);
        const reply = await this.#options.ask<ReportReply>({ verb: "report", pool, body: { outcomes } });
        for (const { leaseId } of reply.stop) this.#options.onStop(leaseId);
      } catch (cause) {
        const message = `${batch.length} outcomes for the pool ${pool} could not be delivered.`;
        this.#options.onProblem(new RemudaFault("report-lost", message, { cause }));
      }
      this.#count -= batch.length;
      for (const { done } of batch) done();
    }
    this.#waiting.delete(pool);
    this.#sending.delete(pool);
  }
}
