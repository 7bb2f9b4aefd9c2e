// Outcomes on their way to the ledger. They are collected for a few milliseconds. A batch has at most a thousand, and
// no more than fit into a request. Each pool sends one batch at a time, and repeats it while the service is away. The
// queue is bounded. An outcome that does not fit, or cannot be delivered within the caller's time, is dropped and
// reported as lost. Its use then counts as unreported, which keeps every limit.

import type { Outcome, ReportReply } from "../protocol/wire.ts";
import type { Ask } from "./ask.ts";
import { RemudaFault } from "./fault.ts";

const batchMax = 1000;
const collectMs = 5;
const waitingMax = 100_000;
const waitingBytesMax = 64 * 1024 * 1024;
/** The bytes of a request besides its outcomes: `{"outcomes":[]}`. */
const frameBytes = 16;

interface Waiting {
  outcome: Outcome;
  /** In a request, its comma included. */
  bytes: number;
  done: () => void;
}

export interface OutcomesOptions {
  ask: Ask;
  /** The largest request. */
  bytesMax: () => number;
  /** The service names leases whose proxy has begun to rest. */
  onStop: (leaseId: string) => void;
  onProblem: (problem: Error) => void;
}

export class Outcomes {
  readonly #options: OutcomesOptions;
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #sending = new Map<string, Promise<void>>();
  #count = 0;
  #bytes = 0;

  constructor(options: OutcomesOptions) {
    this.#options = options;
  }

  /** Resolves when it is in the ledger, or given up. Never rejects. */
  report(pool: string, outcome: Outcome): Promise<void> {
    const bytes = Buffer.byteLength(JSON.stringify(outcome)) + 1;
    const most = this.#options.bytesMax();
    if (frameBytes + bytes > most) return this.#drop(`An outcome of ${bytes} bytes (at most ${most}) was dropped.`);
    if (this.#count >= waitingMax || this.#bytes + bytes > waitingBytesMax)
      return this.#drop(`${this.#count} outcomes wait already (${this.#bytes} bytes): one was dropped.`);
    return new Promise((done) => {
      const waiting = this.#waiting.get(pool) ?? [];
      this.#waiting.set(pool, waiting);
      waiting.push({ outcome, bytes, done });
      this.#count += 1;
      this.#bytes += bytes;
      if (!this.#sending.has(pool)) {
        const sending = this.#send(pool, waiting);
        this.#sending.set(pool, sending);
      }
    });
  }

  /** Resolves when all outcomes reported so far are delivered or given up. */
  async flush(): Promise<void> {
    await Promise.all(this.#sending.values());
  }

  #drop(message: string): Promise<void> {
    this.#options.onProblem(new RemudaFault("report-lost", message));
    return Promise.resolve();
  }

  async #send(pool: string, waiting: Waiting[]): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, collectMs));
    while (waiting.length > 0) {
      const batch = waiting.splice(0, batchOf(waiting, this.#options.bytesMax()));
      try {
        const outcomes = batch.map(({ outcome }) => outcome);
        const reply = await this.#options.ask<ReportReply>({ verb: "report", pool, body: { outcomes } });
        for (const { leaseId } of reply.stop) this.#options.onStop(leaseId);
      } catch (cause) {
        const message = `${batch.length} outcomes for the pool ${pool} could not be delivered.`;
        this.#options.onProblem(new RemudaFault("report-lost", message, { cause }));
      }
      this.#count -= batch.length;
      for (const { bytes, done } of batch) {
        this.#bytes -= bytes;
        done();
      }
    }
    this.#waiting.delete(pool);
    this.#sending.delete(pool);
  }
}

/**
 * How many of them fit into one request. At least one, so that an outcome that never fits is reported and not retried
 * for ever.
 */
function batchOf(waiting: readonly Waiting[], bytesMax: number): number {
  let bytes = frameBytes;
  let count = 0;
  for (const each of waiting) {
    bytes += each.bytes;
    if (count > 0 && (count === batchMax || bytes > bytesMax)) break;
    count++;
  }
  return count;
}
