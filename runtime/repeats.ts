// Keeps the same error from filling the log: it passes once a minute, with how often it came meanwhile.

const everyMs = 60_000;

export class Repeats {
  readonly #last = new Map<string, { text: string; on: number; held: number }>();
  readonly #monotonic: () => number;

  constructor(monotonic = (): number => performance.now()) {
    this.#monotonic = monotonic;
  }

  /** @param key what the error is about, a pool. Returns what to log besides; undefined if it is to be held back. */
  pass(key: string, text: string): { repeated?: number } | undefined {
    const now = this.#monotonic();
    const last = this.#last.get(key);
    if (last?.text === text && now - last.on < everyMs) {
      last.held++;
      return undefined;
    }
    this.#last.set(key, { text, on: now, held: 0 });
    return last?.text === text && last.held > 0 ? { repeated: last.held } : {};
  }
}
