// Bounds the clients that follow ledgers: in total, and for each user's key. Each holds one batch of commits at most, so
// their memory is bounded as well. A reader is counted before anything is awaited for it.
import { type Refusal, refuse } from "../../protocol/refusal.ts";

/** Each may hold a batch and one commit more: half a megabyte. */
const readersMax = 100;
const readersPerUserMax = 20;
const retryAfterMs = 5000;

export class Readers {
  #count = 0;
  readonly #byUser = new Map<string, number>();

  get count(): number {
    return this.#count;
  }

  /** @param user undefined without a key: then the total alone is bounded. Returns what ends it, or the refusal. */
  begin(user: string | undefined): { end: () => void } | { refusal: Refusal } {
    if (this.#count >= readersMax) return { refusal: full(`${readersMax} clients follow ledgers here already.`) };
    const own = user === undefined ? 0 : (this.#byUser.get(user) ?? 0);
    if (own >= readersPerUserMax)
      return { refusal: full(`${user ?? ""} follows ledgers ${readersPerUserMax} times here already.`) };
    this.#count++;
    if (user !== undefined) this.#byUser.set(user, own + 1);
    return {
      end: () => {
        this.#count--;
        if (user === undefined) return;
        const left = (this.#byUser.get(user) ?? 1) - 1;
        if (left === 0) this.#byUser.delete(user);
        else this.#byUser.set(user, left);
      },
    };
  }
}

function full(message: string): Refusal {
  return refuse("overloaded", message, { retryAfterMs });
}
