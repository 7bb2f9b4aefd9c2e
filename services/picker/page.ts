// Pages of a list, by id. If few items match, many must be looked at to fill a page. So it is filled in slices, and
// other requests are served between them.

/**
 * A page ends before its answer grows beyond the payload limit of any NATS server. One item has at most a tenth of it.
 */
const pageBytesMax = 400_000;
/** A few milliseconds' worth. */
const lookedAtOnce = 20_000;

export class Page<T> {
  readonly items: T[] = [];
  /** Set if there is a further page. */
  next: { next?: string } = {};
  /** True when nothing is left to look at. */
  isWhole = false;
  readonly #limit: number;
  readonly #view: (id: string) => T | undefined;
  #lookedTo: string | undefined;
  #last = "";
  #bytes = 0;

  /** @param view what is shown of an id; undefined to leave it out. */
  constructor(range: { after?: string | undefined; limit: number }, view: (id: string) => T | undefined) {
    this.#limit = range.limit;
    this.#view = view;
    this.#lookedTo = range.after;
  }

  /**
   * Looks at the next slice. Returns whether the page is whole now.
   * @param idsAfter in order.
   */
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
