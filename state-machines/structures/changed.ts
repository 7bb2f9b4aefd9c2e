// Items that have changed since they were last taken. Mostly one or two, taken after each decision: a list is faster
// for these than a set, whose `clear` makes a new table each time.

/** From this number of items on, a set finds those that are noted already. */
const fewMax = 8;

export class Changed<T> {
  #items: T[] = [];
  #many: Set<T> | undefined;

  /** Each item is noted once. */
  note(item: T): void {
    if (this.#items.length < fewMax) {
      if (!this.#items.includes(item)) this.#items.push(item);
      return;
    }
    this.#many ??= new Set(this.#items);
    if (this.#many.size < this.#many.add(item).size) this.#items.push(item);
  }

  /** In the order in which they were first noted. Forgets them. */
  take(): readonly T[] {
    if (this.#items.length === 0) return none;
    const items = this.#items;
    this.#items = [];
    this.#many = undefined;
    return items;
  }
}

const none: readonly never[] = [];
