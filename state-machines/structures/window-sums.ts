// Amounts by instant, added in the order of time: their sum since an instant, and when time will have brought it below a
// limit, each in O(log n).

export class WindowSums {
  #instants: number[] = [];
  #amounts: number[] = [];
  /** The sum of all amounts up to each one, that one included. */
  #upTo: number[] = [];
  #first = 0;

  static of(entries: readonly (readonly [at: number, amount: number])[]): WindowSums {
    const sums = new WindowSums();
    for (const [at, amount] of entries) sums.add(at, amount);
    return sums;
  }

  get size(): number {
    return this.#instants.length - this.#first;
  }

  /** The latest instant; -1: there is none. */
  get last(): number {
    return this.size === 0 ? -1 : this.#instants[this.#instants.length - 1]!;
  }

  /** @param at not before the last one. */
  add(at: number, amount: number): void {
    const end = this.#instants.length - 1;
    if (this.last === at) {
      this.#amounts[end]! += amount;
      this.#upTo[end]! += amount;
      return;
    }
    this.#upTo.push((this.#upTo[end] ?? 0) + amount);
    this.#instants.push(at);
    this.#amounts.push(amount);
  }

  /** The sum of what was added after `at`. */
  sumAfter(at: number): number {
    const place = this.#after(at);
    return (this.#upTo.at(-1) ?? 0) - (this.#upTo[place - 1] ?? 0);
  }

  /** The first instant after which less than `limit` (at least 1) was added; -1: always. */
  belowFrom(limit: number): number {
    const total = this.#upTo.at(-1) ?? 0;
    let low = this.#first;
    let high = this.#instants.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (total - (this.#upTo[middle - 1] ?? 0) < limit) high = middle;
      else low = middle + 1;
    }
    return low === this.#first ? -1 : this.#instants[low - 1]!;
  }

  /** Forgets what was added at `at` or before. */
  prune(at: number): void {
    this.#first = this.#after(at);
    if (this.#first <= 32 || this.#first * 2 <= this.#instants.length) return;
    const kept = this.toArray();
    [this.#instants, this.#amounts, this.#upTo, this.#first] = [[], [], [], 0];
    for (const [instant, amount] of kept) this.add(instant, amount);
  }

  toArray(): [at: number, amount: number][] {
    return this.#instants.slice(this.#first).map((at, i) => [at, this.#amounts[this.#first + i]!]);
  }

  /** The place of the first one after `at`. */
  #after(at: number): number {
    let low = this.#first;
    let high = this.#instants.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#instants[middle]! <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
