// A heap of numbers, for an index over very many items. It knows the place of each, so any can be moved or deleted in
// O(log n). An item is a small whole number that its owner gives out. A key is one number, or three, each breaking the
// ties of the one before. With a million items hardly one is in a cache, and a heap of objects pays for each that it
// compares. Here children are next to each other with their keys.

type Key = readonly [first: number, second: number, third: number];

export class NumberHeap {
  size = 0;
  /** By place: a key and its item. */
  #rows: Float64Array;
  /** By item: its place + 1. 0: the item is not here. */
  #places = new Int32Array(16);
  readonly #width: 1 | 3;
  readonly #step: number;
  /**
   * Four children for long keys, so fewer are moved. Two for short ones: in a sampler, the order of ties decides lots.
   */
  readonly #shift: 1 | 2;

  /** @param width how many numbers a key has. */
  constructor(width: 1 | 3) {
    this.#width = width;
    this.#shift = width === 1 ? 1 : 2;
    this.#step = width + 1;
    this.#rows = new Float64Array(16 * this.#step);
  }

  /** The first item in order. -1: there is none. */
  get top(): number {
    return this.size === 0 ? -1 : this.#itemAt(0);
  }

  /** The first number of its key. Infinity: there is none. */
  get least(): number {
    return this.size === 0 ? Infinity : this.#rows[0]!;
  }

  has(item: number): boolean {
    return item < this.#places.length && this.#places[item] !== 0;
  }

  /** The key of an item that is here, filled up with 0. */
  keyOf(item: number): Key {
    const row = (this.#places[item]! - 1) * this.#step;
    const rows = this.#rows;
    return this.#width === 1 ? [rows[row]!, 0, 0] : [rows[row]!, rows[row + 1]!, rows[row + 2]!];
  }

  /** Puts the item in, or moves it to where this key belongs. */
  set(item: number, first: number, second = 0, third = 0): void {
    if (item >= this.#places.length) {
      const places = new Int32Array(Math.max(item + 1, this.#places.length * 2));
      places.set(this.#places);
      this.#places = places;
    }
    let at = this.#places[item]! - 1;
    if (at < 0) {
      at = this.size++;
      if (this.size * this.#step > this.#rows.length) {
        const rows = new Float64Array(this.#rows.length * 2);
        rows.set(this.#rows);
        this.#rows = rows;
      }
    }
    this.#settle(at, item, first, second, third);
  }

  delete(item: number): void {
    if (!this.has(item)) return;
    const at = this.#places[item]! - 1;
    this.#places[item] = 0;
    const last = --this.size;
    if (at === last) return;
    const rows = this.#rows;
    const row = last * this.#step;
    const isWide = this.#width === 3;
    this.#settle(at, this.#itemAt(last), rows[row]!, isWide ? rows[row + 1]! : 0, isWide ? rows[row + 2]! : 0);
  }

  clear(): void {
    this.size = 0;
    this.#places.fill(0);
  }

  /** The items in order. The k-th costs O(k). Do not change any meanwhile. */
  *inOrder(): Generator<number> {
    const open: number[] = this.size > 0 ? [0] : [];
    while (open.length > 0) {
      let best = 0;
      for (let i = 1; i < open.length; i++) if (this.#isBefore(open[i]!, open[best]!)) best = i;
      const at = open[best]!;
      open[best] = open.at(-1)!;
      open.pop();
      for (let child = this.#childOf(at), end = this.#endOf(child); child < end; child++) open.push(child);
      yield this.#itemAt(at);
    }
  }

  /** All items, in no order. Do not change any meanwhile. */
  *all(): Generator<number> {
    for (let at = 0; at < this.size; at++) yield this.#itemAt(at);
  }

  /** Puts the item where its key belongs: up from a place that is free, else down from there. */
  #settle(from: number, item: number, first: number, second: number, third: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> this.#shift;
      if (this.#compare(parent, first, second, third) <= 0) break;
      this.#move(parent, at);
      at = parent;
    }
    while (at >= from) {
      const child = this.#leastChild(at);
      if (child < 0 || this.#compare(child, first, second, third) >= 0) break;
      this.#move(child, at);
      at = child;
    }
    const rows = this.#rows;
    const row = at * this.#step;
    rows[row] = first;
    if (this.#width === 3) {
      rows[row + 1] = second;
      rows[row + 2] = third;
    }
    rows[row + this.#width] = item;
    this.#places[item] = at + 1;
  }

  #leastChild(at: number): number {
    const start = this.#childOf(at);
    const end = this.#endOf(start);
    if (start >= end) return -1;
    let least = start;
    for (let child = start + 1; child < end; child++) if (this.#isBefore(child, least)) least = child;
    return least;
  }

  #childOf(at: number): number {
    return (at << this.#shift) + 1;
  }

  #endOf(firstChild: number): number {
    return Math.min(firstChild + (1 << this.#shift), this.size);
  }

  #move(from: number, to: number): void {
    const rows = this.#rows;
    const step = this.#step;
    for (let i = 0; i < step; i++) rows[to * step + i] = rows[from * step + i]!;
    this.#places[this.#itemAt(to)] = to + 1;
  }

  #itemAt(place: number): number {
    return this.#rows[place * this.#step + this.#width]!;
  }

  #isBefore(a: number, b: number): boolean {
    const rows = this.#rows;
    const row = b * this.#step;
    return this.#width === 1
      ? rows[a * 2]! < rows[row]!
      : this.#compare(a, rows[row]!, rows[row + 1]!, rows[row + 2]!) < 0;
  }

  /** Below 0: the key at the place comes before the given one; above 0: after it. */
  #compare(place: number, first: number, second: number, third: number): number {
    const rows = this.#rows;
    const row = place * this.#step;
    const own = rows[row]!;
    if (own !== first) return own < first ? -1 : 1;
    if (this.#width === 1) return 0;
    const next = rows[row + 1]!;
    if (next !== second) return next < second ? -1 : 1;
    const last = rows[row + 2]!;
    return last === third ? 0 : last < third ? -1 : 1;
  }
}
