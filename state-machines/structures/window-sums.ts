// Amounts by instant, added in the order of time. Two questions cost O(log n): their sum since an instant, and the
// instant from which that sum is below a limit.
import { placeAfter } from "./sorted.ts";

export class WindowSums {
  #instants: number[] = [];
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
      this.#upTo[end]! += amount;
      return;
    }
    this.#upTo.push((this.#upTo[end] ?? 0) + amount);
    this.#instants.push(at);
  }

  /** The sum of all amounts that were added after `at`. */
  sumAfter(at: number): number {
    const place = placeAfter(this.#instants, at, this.#first);
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
    this.#first = placeAfter(this.#instants, at, this.#first);
    if (this.#first <= 32 || this.#first * 2 <= this.#instants.length) return;
    const kept = this.toArray();
    [this.#instants, this.#upTo, this.#first] = [[], [], 0];
    for (const [instant, amount] of kept) this.add(instant, amount);
  }

  toArray(): [at: number, amount: number][] {
    const from = this.#first;
    return this.#instants.slice(from).map((at, i) => [at, this.#upTo[from + i]! - (this.#upTo[from + i - 1] ?? 0)]);
  }
}
