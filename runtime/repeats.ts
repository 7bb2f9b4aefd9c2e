// Keeps the same line from filling the log: it passes once a minute, with the number of times that it came meanwhile.
// Lines that differ in details alone (the error's text, a number in it) are bounded as well.

const everyMs = 60_000;
/** At most this many different texts of one topic pass in a minute. */
const textsMax = 20;
/** Beyond this number the oldest topic is forgotten. Its line may then pass early. */
const topicsMax = 10_000;
/** New topics of a minute. A client may name any number of pools that do not exist. Further topics share one. */
const newTopicsMax = 1000;

interface Topic {
  /** When each text passed last. */
  passed: Map<string, number>;
  held: number;
}

export class Repeats {
  readonly #topics = new Map<string, Topic>();
  readonly #monotonic: () => number;
  #begun = 0;
  #minuteEnd = 0;
  #others: Topic = { passed: new Map(), held: 0 };

  constructor(monotonic = (): number => performance.now()) {
    this.#monotonic = monotonic;
  }

  /**
   * @param topic the statement of the line, and its pool. @param text its details.
   * @returns further fields to log; undefined if the line is to be held back.
   */
  pass(topic: string, text: string): { repeated?: number } | undefined {
    const now = this.#monotonic();
    const known = this.#topics.get(topic) ?? this.#begin(topic, now);
    for (const [each, on] of known.passed) if (now - on >= everyMs) known.passed.delete(each);
    if (known.passed.has(text) || known.passed.size >= textsMax) {
      known.held++;
      return undefined;
    }
    known.passed.set(text, now);
    const { held } = known;
    known.held = 0;
    return held > 0 ? { repeated: held } : {};
  }

  #begin(topic: string, now: number): Topic {
    if (now >= this.#minuteEnd) {
      this.#minuteEnd = now + everyMs;
      this.#begun = 0;
    }
    if (this.#begun++ >= newTopicsMax) return this.#others;
    for (const first of this.#topics.keys()) {
      if (this.#topics.size < topicsMax) break;
      this.#topics.delete(first);
    }
    const begun: Topic = { passed: new Map(), held: 0 };
    this.#topics.set(topic, begun);
    return begun;
  }
}
