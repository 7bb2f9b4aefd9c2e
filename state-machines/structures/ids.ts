// The ids of a pool's proxies, in order. A page of a list costs the same wherever it begins and however many proxies
// there are. Ids are digests behind one prefix, so their first two characters spread them evenly over buckets. A bucket
// is sorted when it is first read after a change: a few hundred ids of a million. Derived from the state.
import { placeAfter } from "./sorted.ts";

const prefix = "p_";

/** Characters that are told apart. */
const characters = 128;

interface Bucket {
  ids: string[];
  inOrder: boolean;
}

export class Ids {
  /** By the first character, then by the second. Made when they are needed: most pools are small. */
  readonly #rows: ((Bucket | undefined)[] | undefined)[] = emptyRow();

  add(id: string): void {
    const place = bucketOf(id);
    const bucket = this.#at(place) ?? this.#make(place);
    bucket.inOrder = bucket.ids.length === 0;
    bucket.ids.push(id);
  }

  delete(id: string): void {
    const ids = this.#at(bucketOf(id))?.ids ?? [];
    const place = ids.indexOf(id);
    if (place >= 0) ids.splice(place, 1);
  }

  /** The ids after `after`, in order; if absent, all. Do not add or delete any meanwhile. */
  *after(after: string | undefined): Generator<string> {
    const isWithin = after?.startsWith(prefix) === true;
    if (after !== undefined && !isWithin && after > prefix) return;
    const first = isWithin ? bucketOf(after) : 0;
    for (let place = first; place < characters * characters; place++) {
      if (this.#rows[Math.floor(place / characters)] === undefined) {
        place += characters - 1 - (place % characters); // To the last place of its row.
        continue;
      }
      const ids = this.#inOrder(place);
      const from = place === first && isWithin ? placeAfter(ids, after) : 0;
      for (let i = from; i < ids.length; i++) yield ids[i]!; // Below the length.
    }
  }

  #inOrder(place: number): readonly string[] {
    const bucket = this.#at(place);
    if (bucket === undefined) return [];
    if (!bucket.inOrder) bucket.ids.sort();
    bucket.inOrder = true;
    return bucket.ids;
  }

  #make(place: number): Bucket {
    const at = Math.floor(place / characters);
    const row = this.#rows[at] ?? emptyRow();
    const bucket = { ids: [], inOrder: true };
    row[place % characters] = bucket;
    this.#rows[at] = row;
    return bucket;
  }

  #at(place: number): Bucket | undefined {
    return this.#rows[Math.floor(place / characters)]?.[place % characters];
  }
}

/** Without gaps, or it would become a dictionary. */
function emptyRow<Value>(): (Value | undefined)[] {
  return Array.from({ length: characters }, () => undefined);
}

/** By the two characters after the prefix, in their order. Any text has a bucket. */
function bucketOf(id: string): number {
  return rank(id, prefix.length) * characters + rank(id, prefix.length + 1);
}

function rank(id: string, place: number): number {
  return place < id.length ? Math.min(id.charCodeAt(place), characters - 1) : 0;
}
