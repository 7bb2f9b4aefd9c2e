// Bounds the memory that the lists of all sources take at once. A list may have 256 MB, and a request may set many
// sources that all give one at the same moment. In `up` that memory is the picker's as well.
//
// A pool may have at most as much as it leaves free for others. So one pool has half of the room at most, which is one
// list of the largest size, and there is always room for a pool that has none. The same holds for the threads that
// parse JSON.
import { Fault } from "../../runtime/fault.ts";

/** Of one list. */
export const textBytesMax = 256 * 1024 * 1024;

/** Each may need a gigabyte. */
const threadsMax = 2;

export class Room {
  readonly #bytesMax: number;
  readonly #bytesOf = new Map<string, number>();
  #bytes = 0;
  readonly #parsing = new Set<string>();
  #turn = Promise.withResolvers<void>();

  constructor(bytesMax = 2 * textBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** The part of one source of this pool. */
  share(pool: string): Share {
    let held = 0;
    const change = (bytes: number): void => {
      const left = (this.#bytesOf.get(pool) ?? 0) + bytes;
      if (left > 0) this.#bytesOf.set(pool, left);
      else this.#bytesOf.delete(pool);
      this.#bytes += bytes;
      held += bytes;
    };
    return {
      take: (bytes) => {
        const others = this.#bytes - (this.#bytesOf.get(pool) ?? 0);
        if ((this.#bytesOf.get(pool) ?? 0) * 2 + others + bytes * 2 > this.#bytesMax)
          throw new Fault("retry-later", "too much is being read from the sources of this pool at the same time");
        change(bytes);
      },
      free: () => change(-held),
      parsing: (parse, stopping) => this.#parsed(pool, stopping, parse),
    };
  }

  #turnOrEnd(stopping: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        stopping.removeEventListener("abort", end); // It outlives any number of turns.
        resolve();
      };
      stopping.addEventListener("abort", end);
      void this.#turn.promise.then(end);
    });
  }

  async *#parsed<T>(pool: string, stopping: AbortSignal, parse: () => AsyncGenerator<T>): AsyncGenerator<T> {
    while (!stopping.aborted && (this.#parsing.has(pool) || this.#parsing.size >= threadsMax))
      await this.#turnOrEnd(stopping);
    if (stopping.aborted) throw new Fault("retry-later", "the source is no longer followed");
    this.#parsing.add(pool);
    try {
      yield* parse();
    } finally {
      this.#parsing.delete(pool);
      this.#turn.resolve();
      this.#turn = Promise.withResolvers();
    }
  }
}

export interface Share {
  /** @throws Fault "retry-later" if there is no room for this many more bytes. */
  take(bytes: number): void;
  /** All that it has taken. */
  free(): void;
  /** Waits until a thread may parse a document of this pool: one at a time. */
  parsing<T>(parse: () => AsyncGenerator<T>, stopping: AbortSignal): AsyncGenerator<T>;
}
