// A histogram with fixed bounds: counting costs a few comparisons and allocates nothing, so it may stand on any path.

export class Histogram {
  readonly #le: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** @param le the upper bounds of the buckets, ascending; one more bucket has what is above. */
  constructor(le: readonly number[]) {
    this.#le = le;
    this.#counts = new Array<number>(le.length + 1).fill(0);
  }

  observe(value: number): void {
    let place = 0;
    while (place < this.#le.length && value > this.#le[place]!) place++; // Below the length.
    this.#counts[place]!++; // There is one more than bounds.
    this.#sum += value;
  }

  /** As it is now; what is counted later does not change it. */
  view(): { le: readonly number[]; counts: number[]; sum: number } {
    return { le: this.#le, counts: [...this.#counts], sum: this.#sum };
  }
}
