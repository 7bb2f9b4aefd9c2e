// A sampler of lots: each item has as many lots as its weight. The owner of any lot is found in O(log n), exactly. The
// items are in an array like those of a heap, and each place has the sum of the weights at and below it. An item holds
// its place in a field that is named when the sampler is made (-1: not here). Which lots an item has depends on the
// order in which items came and went. All lots are equally likely.

export class WeightedSampler<Field extends string, Item extends Record<Field, number>> {
  readonly #items: Item[] = [];
  readonly #sums: number[] = [];
  readonly #place: Field;

  constructor(place: Field) {
    this.#place = place;
  }

  get lots(): number {
    return this.#sums[0] ?? 0;
  }

  /** @param weight a whole number. 0 deletes the item. */
  set(item: Item, weight: number): void {
    if (weight === 0) return this.delete(item);
    let at: number = item[this.#place];
    if (at < 0) {
      at = this.#items.length;
      this.#put(item, at);
      this.#items.push(item);
      this.#sums.push(0);
    }
    this.#add(at, weight - this.#weightAt(at));
  }

  delete(item: Item): void {
    const at: number = item[this.#place];
    if (at < 0) return;
    this.#put(item, -1);
    const lastAt = this.#items.length - 1;
    const lastWeight = this.#weightAt(lastAt);
    this.#add(lastAt, -lastWeight);
    const last = this.#items.pop()!; // The item itself is in the sampler, so there is a last one.
    this.#sums.pop();
    if (last === item) return;
    this.#add(at, lastWeight - this.#weightAt(at));
    this.#items[at] = last;
    this.#put(last, at);
  }

  clear(): void {
    for (const item of this.#items) this.#put(item, -1);
    this.#items.length = 0;
    this.#sums.length = 0;
  }

  /** The owner of a lot, and which of its lots that is, from 0. @param lot from 0, below `lots`. */
  at(lot: number): { item: Item; nth: number } {
    let at = 0;
    let nth = lot;
    for (;;) {
      const left = 2 * at + 1;
      const own = this.#weightAt(at);
      if (nth < own) return { item: this.#items[at]!, nth };
      nth -= own;
      const inLeft = this.#sums[left] ?? 0;
      if (nth < inLeft) at = left;
      else {
        nth -= inLeft;
        at = left + 1;
      }
    }
  }

  #weightAt(at: number): number {
    return this.#sums[at]! - (this.#sums[2 * at + 1] ?? 0) - (this.#sums[2 * at + 2] ?? 0);
  }

  #add(at: number, weight: number): void {
    if (weight === 0) return;
    for (let up = at; ; up = (up - 1) >> 1) {
      this.#sums[up]! += weight;
      if (up === 0) return;
    }
  }

  #put(item: Item, at: number): void {
    (item as Record<Field, number>)[this.#place] = at;
  }
}
