// A binary heap whose items know their place, so that any of them can be moved or removed in O(log n). An item holds
// its place in a field of its own, named when the heap is made; -1 means "not in this heap". An item's rank must not
// change while it is in the heap except through `set`, one item at a time.

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

  /** Puts the item in, or moves it to where its present rank belongs. */
  set(item: Item): void {
    let at: number = item[this.#place];
    if (at < 0) {
      at = this.items.length;
      this.items.push(item);
    }
    if (!this.#up(item, at)) this.#down(item, item[this.#place]);
  }

  delete(item: Item): void {
    const at: number = item[this.#place];
    if (at < 0) return;
    const last = this.items.pop()!; // The item itself is in the heap, so there is a last one.
    this.#put(item, -1);
    if (last === item) return;
    if (!this.#up(last, at)) this.#down(last, last[this.#place]);
  }

  clear(): void {
    for (const item of this.items) this.#put(item, -1);
    this.items.length = 0;
  }

  /** The items from the first on, in order; the k-th costs O(k). Not to be changed meanwhile. */
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

  #put(item: Item, at: number): void {
    (item as Record<Field, number>)[this.#place] = at;
  }

  #up(item: Item, from: number): boolean {
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = this.items[parentAt]!;
      if (!this.#before(item, parent)) break;
      this.items[at] = parent;
      this.#put(parent, at);
      at = parentAt;
    }
    this.items[at] = item;
    this.#put(item, at);
    return at !== from;
  }

  #down(item: Item, from: number): void {
    let at = from;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= this.items.length) break;
      const right = this.items[childAt + 1];
      if (right !== undefined && this.#before(right, this.items[childAt]!)) childAt++;
      const child = this.items[childAt]!;
      if (!this.#before(child, item)) break;
      this.items[at] = child;
      this.#put(child, at);
      at = childAt;
    }
    this.items[at] = item;
    this.#put(item, at);
  }
}
