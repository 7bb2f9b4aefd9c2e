// A histogram with fixed bounds. Counting costs a few comparisons and allocates nothing, so any path may use it.

export class Histogram {
  readonly #le: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** @param le the upper bounds of the buckets, ascending. One more bucket counts the values above the last bound. */
  constructor(le: readonly number[]) {
    this.#le = le;
    this.#counts = new Array<number>(le.length + 1).fill(0);
  }

  observe(value: number): void {
    let place = 0;
    while (place < this.#le.length && value > this.#le[place]!) place++; // The index is below the length.
    this.#counts[place]!++; // There is one more count than bounds.
    this.#sum += value;
  }

  /** A copy: later counts do not change it. */
  view(): { le: readonly number[]; counts: number[]; sum: number } {
    return { le: this.#le, counts: [...this.#counts], sum: this.#sum };
  }
}
