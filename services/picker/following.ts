// Follows a ledger: reads each commit as it is stored, and keeps the indexes of the pool's proxies up to date.
import { isForGood } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import type { News } from "../../runtime/stream-news.ts";
import { type Candidates, commonest } from "../../state-machines/candidates/candidates.ts";
import type { Fold } from "./fold.ts";

const retryMs = 200;

interface Followed {
  fold: Pick<Fold, "readOn" | "state">;
  ledger: Pick<Ledger, "read">;
  candidates: Candidates;
  news: News;
  /** Called with each failure after which it tries again. */
  onTrouble: (error: unknown) => void;
}

/**
 * Resolves when aborted. While the broker is away it waits. @throws Fault "stop-damaged" if the ledger is not whole.
 */
export async function followOn(
  { fold, ledger, candidates, news, onTrouble }: Followed,
  signal: AbortSignal,
): Promise<void> {
  const { state } = fold;
  while (!signal.aborted) {
    const { mark } = news;
    try {
      await fold.readOn(ledger);
      while (!signal.aborted && !candidates.isReady(commonest(state)) && candidates.build()) await turn();
      if (!signal.aborted && state.opened) candidates.indexFor(commonest(state));
      await news.after(mark, signal);
    } catch (error) {
      if (isForGood(error)) throw error;
      onTrouble(error);
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
