// Pages of a list, by id. If few items match, many must be looked at to fill a page. So a page is filled in slices: the
// generator pauses after each, and other requests are served meanwhile.
import type { Lease } from "../../state-machines/fold/state.ts";

/**
 * A page ends before its answer grows beyond the payload limit of any NATS server. One item has at most a tenth of it.
 */
const pageBytesMax = 400_000;
/** A few milliseconds' worth. */
const lookedAtOnce = 20_000;

interface Range {
  /** The id after which the page begins. */
  after?: string | undefined;
  limit: number;
}

/** Gives the page after its last slice. `next` is set if there is a further page. */
export type Filling<T> = Generator<void, { items: T[]; next?: string }>;

/**
 * @param given.idsAfter in order. Called for each slice.
 * @param given.view the item for an id; undefined to leave it out.
 */
export function* fillPage<T>(
  { after, limit }: Range,
  given: { idsAfter: (after: string | undefined) => Iterable<string>; view: (id: string) => T | undefined },
): Filling<T> {
  const items: T[] = [];
  let lookedTo = after;
  let last = "";
  let bytes = 0;
  for (;;) {
    let looked = 0;
    for (const id of given.idsAfter(lookedTo)) {
      if (looked++ === lookedAtOnce) break;
      const shown = given.view(id);
      if (shown !== undefined && (items.length === limit || bytes > pageBytesMax)) return { items, next: last };
      lookedTo = id;
      if (shown === undefined) continue;
      bytes += Buffer.byteLength(JSON.stringify(shown));
      items.push(shown);
      last = id;
    }
    if (looked <= lookedAtOnce) return { items };
    yield;
  }
}

/**
 * Leases come and go with every turn, so they are not kept in order. Each page goes through all of them and keeps the
 * lowest ids. So a page costs one look at each lease.
 * @param given.leases all leases that may be on the page, in any order. They may come and go between two slices.
 * @param given.view the item for a lease; undefined if it has ended.
 */
export function* fillLeasePage<T>(
  { after = "", limit }: Range,
  given: { leases: Iterable<Lease>; isMeant: (lease: Lease) => boolean; view: (id: string) => T | undefined },
): Filling<T> {
  /** The lowest ids so far, and up to as many more. */
  const lowest: string[] = [];
  /** No id from here on is among the lowest. */
  let below: string | undefined;
  const cut = (): void => {
    lowest.sort();
    if (lowest.length <= limit + 1) return;
    below = lowest[limit + 1]!; // It is longer.
    lowest.length = limit + 1;
  };
  let looked = 0;
  for (const lease of given.leases) {
    if (++looked % lookedAtOnce === 0) yield;
    const { id } = lease;
    if (id <= after || (below !== undefined && id >= below) || !given.isMeant(lease)) continue;
    lowest.push(id);
    if (lowest.length >= 2 * (limit + 1)) cut();
  }
  cut();
  const idsAfter = (from: string | undefined) => lowest.filter((id) => from === undefined || id > from);
  const page = yield* fillPage({ limit }, { idsAfter, view: given.view });
  // If some leases of this page have ended since, there are more beyond.
  return page.next !== undefined || below === undefined ? page : { ...page, next: lowest.at(-1)! }; // With `below` set.
}
