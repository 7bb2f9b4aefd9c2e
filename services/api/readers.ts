// Bounds the clients that follow ledgers: in total, and for each user's key. Each holds one batch of commits at most,
// so their memory is bounded as well. A reader is counted before anything is awaited for it. All of them together get
// at most half of the process's time, so that fast readers of a long ledger do not hold up requests.
import { type Refusal, refuse } from "../../protocol/refusal.ts";

/** Each may hold a batch and one commit more: half a megabyte. */
const readersMax = 100;
const readersPerUserMax = 20;
const retryAfterMs = 5000;
/** After this much work for readers there is a pause of the same length. */
const workMs = 5;

export class Readers {
  #count = 0;
  readonly #byUser = new Map<string, number>();
  #workedMs = 0;
  #pause: Promise<void> | undefined;

  get count(): number {
    return this.#count;
  }

  /**
   * @param user undefined without a key: then the total alone is bounded. Returns a function that ends it, or the
   * refusal.
   */
  begin(user: string | undefined): { end: () => void } | { refusal: Refusal } {
    if (this.#count >= readersMax) return { refusal: full(`${readersMax} clients already follow ledgers here.`) };
    const own = user === undefined ? 0 : (this.#byUser.get(user) ?? 0);
    if (own >= readersPerUserMax)
      return { refusal: full(`${user ?? ""} already follows ledgers here with ${readersPerUserMax} connections.`) };
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

  /** Does a piece of work for a reader, when it is its turn. */
  async work(piece: () => void): Promise<void> {
    while (this.#pause !== undefined) await this.#pause;
    const began = performance.now();
    piece();
    this.#workedMs += performance.now() - began;
    if (this.#workedMs < workMs) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pause = promise;
    setTimeout(() => {
      this.#pause = undefined;
      resolve();
    }, this.#workedMs);
    this.#workedMs = 0;
  }
}

function full(message: string): Refusal {
  return refuse("overloaded", message, { retryAfterMs });
}
