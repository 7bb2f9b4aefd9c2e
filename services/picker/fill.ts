// Checks every few seconds how full the ledger is. The space above the bound is for what must not be refused: reports,
// ends, claims.
import type { Clock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";

/** How full the ledger may be before leases are refused. */
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

  /** Resolves after the first look. Further looks follow until it is stopped. */
  async watch(): Promise<void> {
    try {
      this.#isHigh = (await this.#ledger.fill()) >= fillMax;
    } catch {
      // The broker is away. The commit in flight shows the same more clearly.
    }
    if (!this.#stopped) this.#cancel = this.#clock.after(everyMs, () => void this.watch());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }
}
