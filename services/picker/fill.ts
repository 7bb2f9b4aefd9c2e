// How full the ledger is, looked at every few seconds. What is left above the bound is for what must not be refused: reports,
// ends, claims.
import type { Clock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";

/** How full it may be before leases are refused. */
export const fillMax = 0.9;
const everyMs = 5000;

export class Fill {
  readonly #ledger: Pick<Ledger, "fill">;
  readonly #clock: Pick<Clock, "after">;
  #cancel: (() => void) | undefined;
  #stopped = false;
  #isHigh = false;

  constructor({ ledger, clock }: { ledger: Pick<Ledger, "fill">; clock: Pick<Clock, "after"> }) {
    this.#ledger = ledger;
    this.#clock = clock;
  }

  get isHigh(): boolean {
    return this.#isHigh;
  }

  /** Resolves after the first look; the others follow until it is stopped. */
  async watch(): Promise<void> {
    try {
      this.#isHigh = (await this.#ledger.fill()) >= fillMax;
    } catch {
      // The broker is away; the commit in flight tells the same more clearly.
    }
    if (!this.#stopped) this.#cancel = this.#clock.after(everyMs, () => void this.watch());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }
}
