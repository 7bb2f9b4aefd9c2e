// Pages of a list, by id. A page that few match is found by looking at many, so it is looked for in slices, between which
// others have their turn.

/** A page ends before its answer grows beyond what any NATS server takes; one item has at most a tenth of it. */
const pageBytesMax = 400_000;
/** A few milliseconds' worth. */
const lookedAtOnce = 20_000;

export class Page<T> {
  readonly items: T[] = [];
  /** Where there is more. */
  next: { next?: string } = {};
  /** Nothing is left to be looked at. */
  isWhole = false;
  readonly #limit: number;
  readonly #view: (id: string) => T | undefined;
  #lookedTo: string | undefined;
  #last = "";
  #bytes = 0;

  /** @param view What is shown of an id; undefined: nothing. */
  constructor(range: { after?: string | undefined; limit: number }, view: (id: string) => T | undefined) {
    this.#limit = range.limit;
    this.#view = view;
    this.#lookedTo = range.after;
  }

  /** Looks at the next of them. Returns whether the page is whole now. @param idsAfter in order. */
  look(idsAfter: (after: string | undefined) => Iterable<string>): boolean {
    let looked = 0;
    for (const id of idsAfter(this.#lookedTo)) {
      if (looked++ === lookedAtOnce) return false;
      const shown = this.#view(id);
      if (shown !== undefined && (this.items.length === this.#limit || this.#bytes > pageBytesMax)) {
        this.next = { next: this.#last };
        break;
      }
      this.#lookedTo = id;
      if (shown === undefined) continue;
      this.#bytes += Buffer.byteLength(JSON.stringify(shown));
      this.items.push(shown);
      this.#last = id;
    }
    this.isWhole = true;
    return true;
  }
}
