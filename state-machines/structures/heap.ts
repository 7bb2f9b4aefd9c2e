// A binary heap whose items know their place, so any can be moved or deleted in O(log n). An item holds its place in a
// field that is named when the heap is made. -1: it is not in the heap. Its rank changes only with a call of `set`.

export class Heap<Field extends string, Item extends Record<Field, number>> {
  readonly items: Item[] = [];
  readonly #place: Field;
  readonly #before: (a: Item, b: Item) => boolean;

  constructor(place: Field, before: (a: Item, b: Item) => boolean) {
    this.#place = place;
    this.#before = before;
  }

  get top(): Item | undefined {
    return this.items[0];
  }

  get size(): number {
    return this.items.length;
  }

  has(item: Item): boolean {
    return item[this.#place] >= 0;
  }

  /** Adds the item, or moves it to the place of its present rank. */
  set(item: Item): void {
    let at: number = item[this.#place];
    if (at < 0) {
      at = this.items.length;
      this.items.push(item);
    }
    this.#settle(item, at);
  }

  delete(item: Item): void {
    const at: number = item[this.#place];
    if (at < 0) return;
    const last = this.items.pop()!; // The item itself is in the heap, so there is a last one.
    this.#put(item, -1);
    if (last === item) return;
    this.#settle(last, at);
  }

  clear(): void {
    for (const item of this.items) this.#put(item, -1);
    this.items.length = 0;
  }

  /** The items in order. The k-th costs O(k). Do not change any meanwhile. */
  *inOrder(): Generator<Item> {
    const open: number[] = this.items.length > 0 ? [0] : [];
    while (open.length > 0) {
      let best = 0;
      for (let i = 1; i < open.length; i++) {
        if (this.#before(this.items[open[i]!]!, this.items[open[best]!]!)) best = i;
      }
      const at = open[best]!;
      open[best] = open.at(-1)!;
      open.pop();
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < this.items.length) open.push(child);
      yield this.items[at]!;
    }
  }

  /** Puts the item where its rank belongs: up from a place that is free, else down from there. */
  #settle(item: Item, from: number): void {
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = this.items[parentAt]!;
      if (!this.#before(item, parent)) break;
      this.#move(parent, at);
      at = parentAt;
    }
    while (at >= from) {
      let childAt = 2 * at + 1;
      if (childAt >= this.items.length) break;
      const right = this.items[childAt + 1];
      if (right !== undefined && this.#before(right, this.items[childAt]!)) childAt++;
      const child = this.items[childAt]!;
      if (!this.#before(child, item)) break;
      this.#move(child, at);
      at = childAt;
    }
    this.#move(item, at);
  }

  #move(item: Item, to: number): void {
    this.items[to] = item;
    this.#put(item, to);
  }

  #put(item: Item, at: number): void {
    (item as Record<Field, number>)[this.#place] = at;
  }
}
