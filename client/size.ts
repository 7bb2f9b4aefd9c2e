// How many uses to request at once: more while blocks are used up, fewer when uses are given back. It must never exceed
// the most that the policy could grant. The service reveals that bound only by refusing, so it is found by halving, and
// tried again later.

/** The policy may have changed since. */
const forgetMs = 60_000;
/** Uses follow each other quickly if each takes less than this on average: more than 250 in a second. */
const quickUseMs = 4;
/** A short burst is not measured alone. */
const spanMs = 500;

export class Size {
  #size = 1;
  #granted = 1;
  #refused = Number.POSITIVE_INFINITY;
  #refusedAt = 0;
  readonly #max: number;
  readonly #quickMax: number | undefined;
  /** The uses since then, and whether those of the span before it followed each other quickly. */
  #since = performance.now();
  #uses = 0;
  #isQuick = false;

  /** @param quickMax the most while uses follow each other quickly. Absent: `max`, however quickly. */
  constructor(max: number, quickMax?: number) {
    this.#max = max;
    this.#quickMax = quickMax;
  }

  /** @param waiting requests that wait for a use, per lease request that may be under way. */
  next(waiting: number): number {
    if (performance.now() - this.#refusedAt > forgetMs) this.#refused = Number.POSITIVE_INFINITY;
    const wanted = Math.max(this.#size, Math.min(this.#max, waiting));
    if (wanted < this.#refused) return wanted;
    return Math.max(1, Math.floor((Math.min(this.#granted, this.#refused - 1) + this.#refused) / 2));
  }

  granted(uses: number): void {
    this.#granted = uses;
  }

  /** The policy could never grant this many. */
  refused(uses: number): void {
    this.#refused = Math.min(this.#refused, uses);
    this.#refusedAt = performance.now();
    if (this.#granted >= uses) this.#granted = 1;
  }

  usedUp(uses: number): void {
    const tookMs = performance.now() - this.#since;
    if (tookMs >= spanMs) {
      this.#isQuick = tookMs < this.#uses * quickUseMs;
      this.#since = performance.now();
      this.#uses = 0;
    }
    this.#uses += uses;
    const most = this.#isQuick ? (this.#quickMax ?? this.#max) : this.#max;
    this.#size = Math.min(most, Math.max(this.#size, uses * 2));
  }

  givenBack({ used }: { used: number }): void {
    this.#size = Math.min(this.#max, Math.max(1, used));
  }
}
