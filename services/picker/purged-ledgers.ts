// Ledgers of pools that are led here, and have lost commits in the stream. The ledger of a leader without requests may be
// purged unnoticed. A leader that is asked proves that it still leads.
import type { Logger } from "pino";
import type { Served } from "./serving.ts";

export class PurgedLedgers {
  readonly #log: Pick<Logger, "error">;
  /** A sentence for each. */
  readonly #found = new Map<string, string>();

  constructor(log: Pick<Logger, "error">) {
    this.#log = log;
  }

  list(): { pool: string; message: string }[] {
    return [...this.#found].map(([pool, message]) => ({ pool, message }));
  }

  /**
   * @param commits how many each pool that is led here had, before the sizes were read.
   * @param sizes how many each pool has in the stream.
   */
  look(
    commits: ReadonlyMap<string, number>,
    sizes: ReadonlyMap<string, number>,
    ledBy: (pool: string) => Pick<Served, "leader" | "requests"> | undefined,
  ): void {
    const known = new Set(this.#found.keys());
    this.#found.clear();
    for (const [pool, n] of commits) {
      const led = ledBy(pool);
      // Commits that are archived by now may have been purged.
      const stored = n - (led?.leader.state.archived.n ?? n);
      const found = sizes.get(pool) ?? 0;
      if (found >= stored) continue;
      const what = `The ledger of pool ${pool} has ${found} of ${stored} commits: others were purged.`;
      const message = `${what} Restore the stream from a backup before the next start.`;
      this.#found.set(pool, message);
      if (!known.has(pool)) this.#log.error({ pool, code: "stop-damaged" }, message);
      led?.requests.handle("pool.get", {}, () => {});
    }
  }
}
