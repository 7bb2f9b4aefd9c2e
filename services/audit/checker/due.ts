// What must have happened by a certain time: a queue by instant. Entries are never taken out when they no longer hold;
// who takes one from the top asks whether it does.

export class Due<Item> {
  readonly #instants: number[] = [];
  readonly #items: Item[] = [];

  get first(): number {
    return this.#instants.length === 0 ? Infinity : this.#instants[0]!;
  }

  add(instant: number, item: Item): void {
    let at = this.#instants.length;
    this.#instants.push(instant);
    this.#items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#instants[parent]! <= instant) break;
      this.#instants[at] = this.#instants[parent]!;
      this.#items[at] = this.#items[parent]!;
      at = parent;
    }
    this.#instants[at] = instant;
    this.#items[at] = item;
  }

  /** Takes the first. Only where there is one. */
  take(): Item {
    const taken = this.#items[0]!;
    const instant = this.#instants.pop()!;
    const item = this.#items.pop()!;
    const size = this.#instants.length;
    if (size === 0) return taken;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && this.#instants[child + 1]! < this.#instants[child]!) child++;
      if (instant <= this.#instants[child]!) break;
      this.#instants[at] = this.#instants[child]!;
      this.#items[at] = this.#items[child]!;
      at = child;
    }
    this.#instants[at] = instant;
    this.#items[at] = item;
    return taken;
  }
}
