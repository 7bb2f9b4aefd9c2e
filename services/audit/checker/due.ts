// Events that must have happened by a certain time: a queue by instant. Entries are not removed when they no longer
// hold; the code that takes the first entry checks that. Nearly all entries come in order, because leases have equal
// durations. These are kept in a row, the others in a heap.

export class Due<Item> {
  #instants: number[] = [];
  #items: Item[] = [];
  /** Start of the row; the entries before it have been taken. */
  #start = 0;
  readonly #heap: Entry<Item>[] = [];

  get first(): number {
    const inRow = this.#start < this.#instants.length ? this.#instants[this.#start]! : Infinity;
    return this.#heap.length > 0 && this.#heap[0]!.instant < inRow ? this.#heap[0]!.instant : inRow;
  }

  add(instant: number, item: Item): void {
    const instants = this.#instants;
    if (this.#start < instants.length && instants[instants.length - 1]! > instant) return this.#rise({ instant, item });
    instants.push(instant);
    this.#items.push(item);
  }

  /** Takes the first entry. Call it only if there is one. */
  take(): Item {
    const start = this.#start;
    const isOfHeap = this.#heap.length > 0 && this.first === this.#heap[0]!.instant;
    if (isOfHeap) return this.#sink();
    const item = this.#items[start]!;
    this.#start++;
    if (start >= 1024 && start * 2 > this.#items.length) {
      this.#instants = this.#instants.slice(this.#start);
      this.#items = this.#items.slice(this.#start);
      this.#start = 0;
    }
    return item;
  }

  #rise(entry: Entry<Item>): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.instant <= entry.instant) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #sink(): Item {
    const heap = this.#heap;
    const taken = heap[0]!;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return taken.item;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && heap[child + 1]!.instant < heap[child]!.instant) child++;
      if (last.instant <= heap[child]!.instant) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return taken.item;
  }
}

interface Entry<Item> {
  instant: number;
  item: Item;
}
