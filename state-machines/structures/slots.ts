// The slots of an exit whose end is known. A use's slot is occupied in a window until `base + windowMs + marginMs`,
// where its base is the last instant at which the target can have seen its request. One ordered list of bases serves
// all windows, however many and however wide.
import { placeAfter } from "./sorted.ts";

export class Slots {
  #bases: number[] = [];
  #first = 0;

  get size(): number {
    return this.#bases.length - this.#first;
  }

  /** The largest base; -1 when there is none. */
  get last(): number {
    return this.size === 0 ? -1 : this.#bases[this.#bases.length - 1]!;
  }

  add(base: number, count = 1): void {
    if (this.size === 0) {
      // An array made by `push` has room for seventeen, and there may be a million of these.
      this.#bases = count === 1 ? [base] : new Array<number>(count).fill(base);
      this.#first = 0;
      return;
    }
    const at = this.#after(base);
    if (at === this.#bases.length) for (let i = 0; i < count; i++) this.#bases.push(base);
    else this.#bases.splice(at, 0, ...new Array<number>(count).fill(base));
  }

  /** Removes at most `count` slots with exactly this base. */
  remove(base: number, count = 1): void {
    const end = this.#after(base);
    let start = end;
    while (start > this.#first && end - start < count && this.#bases[start - 1] === base) start--;
    this.#bases.splice(start, end - start);
  }

  /** How many have a base of `from` or later. */
  countFrom(from: number): number {
    return this.#bases.length - this.#after(from - 1);
  }

  /** The k-th base (k from 1) among those of `from` or later. */
  nth(k: number, from: number): number {
    return this.#bases[this.#after(from - 1) + k - 1]!;
  }

  /** The first bases of `from` or later: at most `most` of them. */
  first(from: number, most: number): number[] {
    const at = this.#after(from - 1);
    return this.#bases.slice(at, at + most);
  }

  /** Forgets the bases before `before`. */
  prune(before: number): void {
    while (this.#first < this.#bases.length && this.#bases[this.#first]! < before) this.#first++;
    if (this.#first > 32 && this.#first * 2 > this.#bases.length) {
      this.#bases = this.#bases.slice(this.#first);
      this.#first = 0;
    }
  }

  toArray(): number[] {
    return this.#bases.slice(this.#first);
  }

  /** The place after the last base that is not larger than `base`. */
  #after(base: number): number {
    return placeAfter(this.#bases, base, this.#first);
  }
}
