// A page of open leases, by id. Leases come and go with every turn, so they are not kept in order. Each page goes
// through all of them in slices and keeps the first ones. So a page costs one look at each lease, and other requests
// are served between slices.
import type { Lease } from "../../state-machines/fold/state.ts";
import { Page } from "./page.ts";

/** A few milliseconds' worth. */
const lookedAtOnce = 20_000;

export class LeasePage<T> {
  readonly #page: Page<T>;
  readonly #after: string;
  readonly #most: number;
  readonly #leases: Iterator<Lease>;
  readonly #isMeant: (lease: Lease) => boolean;
  /** The lowest ids so far, and up to as many more. */
  #lowest: string[] = [];
  /** No id from here on is among the lowest. */
  #below: string | undefined;

  /**
   * @param given.leases all leases that may be on the page, in any order. They may come and go between two looks.
   * @param given.view what is shown of a lease; undefined if it has ended.
   */
  constructor(
    range: { after?: string | undefined; limit: number },
    given: {
      leases: Iterable<Lease>;
      isMeant: (lease: Lease) => boolean;
      view: (id: string) => T | undefined;
    },
  ) {
    this.#page = new Page(range, given.view);
    this.#after = range.after ?? "";
    this.#most = range.limit + 1;
    this.#leases = given.leases[Symbol.iterator]();
    this.#isMeant = given.isMeant;
  }

  get items(): T[] {
    return this.#page.items;
  }

  get isWhole(): boolean {
    return this.#page.isWhole;
  }

  /** The id after which the next page begins. */
  get next(): { next?: string } {
    const { next } = this.#page;
    if (next.next !== undefined || this.#below === undefined) return next;
    // Some leases of this page have ended since, and there are more beyond.
    return { next: this.#lowest.at(-1)! }; // With `#below` set there is at least one.
  }

  /** Looks at the next slice. Returns whether the page is whole now. */
  look(): boolean {
    for (let looked = 0; looked < lookedAtOnce; looked++) {
      const next = this.#leases.next();
      if (next.done === true) {
        this.#cut();
        return this.#page.look((after) => this.#lowest.filter((id) => after === undefined || id > after));
      }
      const { id } = next.value;
      if (id <= this.#after || (this.#below !== undefined && id >= this.#below) || !this.#isMeant(next.value)) continue;
      this.#lowest.push(id);
      if (this.#lowest.length >= 2 * this.#most) this.#cut();
    }
    return false;
  }

  #cut(): void {
    this.#lowest.sort();
    if (this.#lowest.length <= this.#most) return;
    this.#below = this.#lowest[this.#most]!; // It is longer.
    this.#lowest.length = this.#most;
  }
}
