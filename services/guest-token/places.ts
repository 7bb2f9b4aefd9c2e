// The places of an executor: how many refreshes run at once, and how many may wait. All pools share them. A pool may
// have no more places than it leaves free. So a pool whose source hangs has half of them at most, and there is always a
// place for a pool that has none.

/** Refreshes that run at once. */
const placesMax = 512;
/** Refreshes that wait for a place. */
const queuedMax = 10_000;

export class Places<Refresh extends { pool: string }> {
  readonly #max: { places: number; queued: number };
  /** How many run, by pool. */
  readonly #running = new Map<string, number>();
  #runningCount = 0;
  readonly #queues = new Map<string, Refresh[]>();
  #queuedCount = 0;

  constructor(max = { places: placesMax, queued: queuedMax }) {
    this.#max = max;
  }

  /** Returns whether there was room. */
  add(refresh: Refresh): boolean {
    const queue = this.#queues.get(refresh.pool) ?? [];
    if (queue.length >= this.#max.queued - this.#queuedCount) return false;
    queue.push(refresh);
    this.#queues.set(refresh.pool, queue);
    this.#queuedCount++;
    return true;
  }

  /** Takes the next refresh that may run, of a pool with the fewest. It has its place until `end`. */
  next(): Refresh | undefined {
    let pool: string | undefined;
    for (const each of this.#queues.keys())
      if (pool === undefined || this.#runningOf(each) < this.#runningOf(pool)) pool = each;
    if (pool === undefined || this.#runningOf(pool) >= this.#max.places - this.#runningCount) return undefined;
    const queue = this.#queues.get(pool) ?? [];
    const refresh = queue.shift();
    this.#queues.delete(pool);
    if (queue.length > 0) this.#queues.set(pool, queue); // Behind the others that have as few.
    this.#queuedCount--;
    this.#running.set(pool, this.#runningOf(pool) + 1);
    this.#runningCount++;
    return refresh;
  }

  end({ pool }: Refresh): void {
    const left = this.#runningOf(pool) - 1;
    if (left > 0) this.#running.set(pool, left);
    else this.#running.delete(pool);
    this.#runningCount--;
  }

  /** No refresh waits any more. */
  clear(): void {
    this.#queues.clear();
    this.#queuedCount = 0;
  }

  #runningOf(pool: string): number {
    return this.#running.get(pool) ?? 0;
  }
}
