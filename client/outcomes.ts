// Outcomes on their way to the ledger. They are collected for a few milliseconds, or a little longer if none of them
// changes what can be leased. A batch has at most a thousand, and no more than fit into a request. Each pool sends one batch at a time, and repeats it while the service is away. The
// queue is bounded. An outcome that does not fit, or cannot be delivered within the caller's time, is dropped and
// reported as lost. Its use then counts as unreported, which keeps every limit.

import type { Outcome, ReportReply } from "../protocol/wire.ts";
import type { Ask } from "./ask.ts";
import { RemudaFault } from "./fault.ts";

const batchMax = 1000;
const collectMs = 5;
/** For batches in which no outcome is pressing. */
const collectMsMax = 25;
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

/** The outcomes of a pool. */
interface Queue {
  waiting: Waiting[];
  /** One of them is pressing. */
  isPressing: boolean;
  /** Ends the collecting. */
  hurry(): void;
  sent: Promise<void>;
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
  readonly #queues = new Map<string, Queue>();
  #count = 0;
  #bytes = 0;

  constructor(options: OutcomesOptions) {
    this.#options = options;
  }

  /**
   * Resolves when it is in the ledger, or given up. Never rejects.
   * @param how.isPressing its lease or its proxy is free, or at rest, once it is reported.
   */
  report(pool: string, outcome: Outcome, { isPressing } = { isPressing: true }): Promise<void> {
    const bytes = Buffer.byteLength(JSON.stringify(outcome)) + 1;
    const most = this.#options.bytesMax();
    if (frameBytes + bytes > most) return this.#drop(`An outcome of ${bytes} bytes (at most ${most}) was dropped.`);
    if (this.#count >= waitingMax || this.#bytes + bytes > waitingBytesMax)
      return this.#drop(`${this.#count} outcomes wait already (${this.#bytes} bytes): one was dropped.`);
    return new Promise((done) => {
      const queue = this.#queues.get(pool) ?? this.#begin(pool);
      queue.waiting.push({ outcome, bytes, done });
      this.#count += 1;
      this.#bytes += bytes;
      if (isPressing) this.#press(queue);
    });
  }

  /** Resolves when all outcomes reported so far are delivered or given up. */
  async flush(): Promise<void> {
    const queues = [...this.#queues.values()];
    for (const queue of queues) this.#press(queue);
    await Promise.all(queues.map(({ sent }) => sent));
  }

  #press(queue: Queue): void {
    queue.isPressing = true;
    queue.hurry();
  }

  #begin(pool: string): Queue {
    const queue: Queue = { waiting: [], isPressing: false, hurry: () => {}, sent: Promise.resolve() };
    this.#queues.set(pool, queue);
    queue.sent = this.#send(pool, queue);
    return queue;
  }

  #drop(message: string): Promise<void> {
    this.#options.onProblem(new RemudaFault("report-lost", message));
    return Promise.resolve();
  }

  async #send(pool: string, queue: Queue): Promise<void> {
    const { waiting } = queue;
    await new Promise((resolve) => setTimeout(resolve, collectMs));
    while (waiting.length > 0) {
      if (!queue.isPressing) await this.#collect(queue);
      const batch = waiting.splice(0, batchOf(waiting, this.#options.bytesMax()));
      if (waiting.length === 0) queue.isPressing = false;
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
    this.#queues.delete(pool);
  }

  /** Until one is pressing. */
  #collect(queue: Queue): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, collectMsMax - collectMs);
      queue.hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
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
