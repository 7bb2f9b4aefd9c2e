// Outcomes of `lease.fetch` that wait for the caller's report. The caller has read the page a moment later than the
// client, so each outcome waits until the next use of the lease begins, for a second, or until the lease is over.
import type { Outcome } from "../protocol/wire.ts";
import type { Use } from "./block.ts";

const heldMs = 1000;

type Report = Partial<Outcome>;
type Send = (use: Use, outcome: Outcome) => void;

export class HeldOutcomes {
  readonly #under = new Set<number>();
  readonly #held = new Map<number, { use: Use; outcome: Outcome; send: Send; timer: NodeJS.Timeout }>();
  /** Reports that came before their request had ended. */
  readonly #reports = new Map<number, Report>();
  readonly #sent = new Set<number>();
  #isOver = false;

  /** Of the latest use, if its outcome is not sent yet. */
  awaited(n: number): boolean {
    return this.#under.has(n) || this.#held.has(n);
  }

  wasSent(n: number): boolean {
    return this.#sent.has(n);
  }

  began({ n }: Use): void {
    this.flush();
    this.#under.add(n);
  }

  ended(use: Use, outcome: Outcome, send: Send): void {
    const { n } = use;
    this.#under.delete(n);
    const timer = setTimeout(() => this.#send(n), heldMs).unref();
    this.#held.set(n, { use, outcome, send, timer });
    if (this.#isOver || this.#reports.has(n) || outcome.status === undefined) this.#send(n);
  }

  report(n: number, report: Report): void {
    this.#reports.set(n, report);
    this.#send(n);
  }

  flush(): void {
    for (const n of [...this.#held.keys()]) this.#send(n);
  }

  /** From now on nothing waits. */
  over(): void {
    this.#isOver = true;
    this.flush();
  }

  #send(n: number): void {
    const held = this.#held.get(n);
    if (held === undefined) return;
    clearTimeout(held.timer);
    this.#held.delete(n);
    this.#sent.add(n);
    held.send(held.use, { ...held.outcome, ...this.#reports.get(n), leaseId: held.outcome.leaseId, n });
  }
}
