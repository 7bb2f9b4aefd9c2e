// The ids of a pool's proxies, in order. A page of a list costs the same wherever it begins and however many proxies
// there are. Ids are digests behind one prefix, so their first two characters spread them evenly over buckets. A bucket
// is sorted when it is first read after a change: a few hundred ids of a million. Derived from the state.
import { placeAfter } from "./sorted.ts";

const prefix = "p_";

export class Ids {
  readonly #buckets: { ids: string[]; inOrder: boolean }[] = [];

  add(id: string): void {
    const bucket = this.#at(bucketOf(id));
    bucket.inOrder = bucket.ids.length === 0;
    bucket.ids.push(id);
  }

  delete(id: string): void {
    const { ids } = this.#at(bucketOf(id));
    const place = ids.indexOf(id);
    if (place >= 0) ids.splice(place, 1);
  }

  /** The ids after `after`, in order; if absent, all. Do not add or delete any meanwhile. */
  *after(after: string | undefined): Generator<string> {
    const isWithin = after?.startsWith(prefix) === true;
    if (after !== undefined && !isWithin && after > prefix) return;
    const first = isWithin ? bucketOf(after) : 0;
    for (let place = first; place < this.#buckets.length; place++) {
      const ids = this.#inOrder(place);
      const from = place === first && isWithin ? placeAfter(ids, after) : 0;
      for (let i = from; i < ids.length; i++) yield ids[i]!; // Below the length.
    }
  }

  #inOrder(place: number): readonly string[] {
    const bucket = this.#at(place);
    if (!bucket.inOrder) bucket.ids.sort();
    bucket.inOrder = true;
    return bucket.ids;
  }

  #at(place: number) {
    // Without gaps, or the array would become a dictionary.
    while (this.#buckets.length <= place) this.#buckets.push({ ids: [], inOrder: true });
    return this.#buckets[place]!; // Just made.
  }
}

/** By the two characters after the prefix, in their order. Any text has a bucket. */
function bucketOf(id: string): number {
  return rank(id, prefix.length) * 128 + rank(id, prefix.length + 1);
}

function rank(id: string, place: number): number {
  return place < id.length ? Math.min(id.charCodeAt(place), 127) : 0;
}
