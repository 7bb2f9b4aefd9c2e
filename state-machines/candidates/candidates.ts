// The candidate indexes that lease requests have needed so far, kept in step with the state. Their number is bounded:
// the index that was used longest ago is dropped. Indexes that requests wait for are kept.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Exit, PoolState, Proxy, Watcher } from "../fold/state.ts";
import type { Need } from "../rules/token.ts";
import { Changed } from "../structures/changed.ts";
import { CandidateIndex } from "./candidate-index.ts";
import { keyOf } from "./terms.ts";

type Asking = Pick<LeaseRequest, "labels" | "schemes" | "minUses">;

/** The indexes for a lease request. With per-proxy tokens, a request for a token uses three. */
export interface CandidateIndexes {
  /** Matching proxies, whatever their tokens. */
  plain: CandidateIndex;
  /** Proxies that could serve the request: the same index, or those with a good token. */
  able: CandidateIndex;
  /** Those without a good token that may be given one. Absent: the pool has one token, or the request needs none. */
  wanting?: CandidateIndex;
}

/** Each index costs every grant O(log n). */
const indexesMax = 128;
/** For all indexes together, at about 250 bytes a seat. */
const seatsMax = 4_000_000;
/** Visiting this many proxies takes a few milliseconds. */
const lookedAtOnce = 10_000;

/** The most frequent request. */
export function commonest(state: PoolState): Asking & { token: boolean } {
  return { minUses: 1, token: state.tokens.size > 0 };
}

export class Candidates implements Watcher {
  readonly #state: PoolState;
  readonly #indexes = new Map<string, CandidateIndex>();
  /** The key of the index that was used last: the last in the map. */
  #lastKey: string | undefined;
  /** How often each index is pinned. */
  readonly #pinned = new Map<CandidateIndex, number>();
  /** Indexes that requests wait for until they are built, in this turn and in the last. */
  #asked = new Set<CandidateIndex>();
  #askedBefore = new Set<CandidateIndex>();
  readonly #proxies = new Changed<Proxy>();
  readonly #exits = new Changed<Exit>();
  #everything = false;
  #isRebuilding = false;

  constructor(state: PoolState) {
    this.#state = state;
    state.watcher = this;
  }

  proxyChanged(proxy: Proxy): void {
    this.#proxies.note(proxy);
  }

  exitChanged(exit: Exit): void {
    this.#exits.note(exit);
  }

  proxyLeft(proxy: Proxy, exit: Exit): void {
    for (const index of this.#indexes.values()) index.leave(proxy, exit);
    this.#exits.note(exit);
    this.#proxies.note(proxy);
  }

  everythingChanged(): void {
    this.#everything = true;
  }

  /** The up-to-date index for a request. Undefined if other waiting requests pin too many indexes. */
  indexFor(request: Asking, need?: Need): CandidateIndex | undefined {
    this.settle();
    const key = keyOf(request, need);
    const index = this.#indexes.get(key) ?? this.#newIndex(request, need);
    if (index === undefined) return undefined;
    if (key !== this.#lastKey) {
      this.#indexes.delete(key);
      this.#indexes.set(key, index);
      this.#lastKey = key;
    }
    index.build(Infinity);
    index.advance();
    return index;
  }

  /** All indexes for the request. Undefined as above. */
  indexesFor(request: Asking & Pick<LeaseRequest, "token">): CandidateIndexes | undefined {
    const plain = this.indexFor(request);
    if (plain === undefined) return undefined;
    if (!this.#hasOwnTokens(request)) return { plain, able: plain };
    // Pinned, so that none is dropped for another.
    this.pin({ plain }, 1);
    const able = this.indexFor(request, "good");
    const first = able === undefined ? {} : { able };
    this.pin(first, 1);
    const wanting = this.indexFor(request, "wanting");
    this.pin({ plain }, -1);
    this.pin(first, -1);
    return able === undefined || wanting === undefined ? undefined : { plain, able, wanting };
  }

  /** Whether `indexesFor` answers at once. If false, `build` makes the indexes turn by turn, and the caller retries. */
  isReady(request: Asking & Pick<LeaseRequest, "token">): boolean {
    if (this.isRebuilding) return false;
    const plain = this.#begun(request);
    // Also the index in which a refresh looks for its proxy.
    const all = this.#hasOwnTokens(request)
      ? [plain, this.#begun(request, "good"), this.#begun(request, "wanting"), this.#begun({ minUses: 1 }, "due")]
      : [plain];
    const begun = all.filter((index) => index !== undefined);
    if (begun.length < all.length || begun.every(({ isBuilt }) => isBuilt)) return true;
    for (const index of begun) this.#asked.add(index);
    return false;
  }

  /** Undefined: it is made at once (few proxies), or there is no room for it. */
  #begun(request: Asking, need?: Need): CandidateIndex | undefined {
    const key = keyOf(request, need);
    const known = this.#indexes.get(key);
    if (known !== undefined || this.#state.proxies.size <= lookedAtOnce) return known;
    const index = this.#newIndex(request, need);
    if (index === undefined) return undefined;
    this.#indexes.set(key, index);
    this.#lastKey = key;
    return index;
  }

  /** Whether the request needs a token of the proxy's own. */
  #hasOwnTokens({ token }: Pick<LeaseRequest, "token">): boolean {
    return token === true && this.#state.rules.policy.token?.scope === "proxy";
  }

  /** Indexes of very many proxies are rebuilt turn by turn. Until then an earlier request could be passed over. */
  get isRebuilding(): boolean {
    this.settle();
    return this.#isRebuilding;
  }

  /** Continues one of the indexes that were begun. Returns whether there is more to do. */
  build(): boolean {
    const wasRebuilding = this.#isRebuilding;
    this.#askedBefore = this.#asked;
    this.#asked = new Set();
    let left = 0;
    for (const index of this.#indexes.values()) {
      if (index.isBuilt) continue;
      if (left === 0) {
        this.settle();
        if (index.build(lookedAtOnce)) continue;
      }
      left++;
    }
    if (left === 0) this.#isRebuilding = false;
    return left > 0 || wasRebuilding; // Requests that waited for it are served in another turn.
  }

  /** A request begins (1) or stops (-1) to wait for these indexes. Meanwhile they are not dropped. */
  pin(indexes: Partial<CandidateIndexes>, change: 1 | -1): void {
    for (const index of new Set(Object.values(indexes))) {
      const count = (this.#pinned.get(index) ?? 0) + change;
      if (count === 0) this.#pinned.delete(index);
      else this.#pinned.set(index, count);
    }
  }

  /** Passes changes since the last call on to the indexes. */
  settle(): void {
    const proxies = this.#proxies.take();
    if (this.#everything) {
      this.#exits.take();
      for (const index of this.#indexes.values()) {
        const wasBuilt = index.isBuilt;
        index.begin();
        if (!wasBuilt) continue;
        if (this.#state.proxies.size <= lookedAtOnce) index.build(Infinity);
        else this.#isRebuilding = true;
      }
    } else {
      for (const proxy of proxies) {
        this.#exits.note(proxy.account);
        for (const index of this.#indexes.values()) index.place(proxy);
      }
      for (const exit of this.#exits.take()) for (const index of this.#indexes.values()) index.reassess(exit);
    }
    this.#everything = false;
  }

  /** Undefined: too many indexes are pinned. */
  #newIndex({ labels, schemes, minUses }: Asking, need?: Need): CandidateIndex | undefined {
    let seats = 0;
    for (const index of this.#indexes.values()) seats += index.size;
    while (seats > seatsMax) {
      const dropped = this.#dropOldest();
      if (dropped === undefined) break;
      seats -= dropped.size;
    }
    if (this.#indexes.size >= indexesMax && this.#dropOldest() === undefined) return undefined;
    return new CandidateIndex(this.#state, { labels, schemes: schemes?.toSorted(), minUses, need });
  }

  #dropOldest(): CandidateIndex | undefined {
    for (const [key, index] of this.#indexes) {
      if (!index.isBuilt || [this.#pinned, this.#asked, this.#askedBefore].some((all) => all.has(index))) continue;
      this.#indexes.delete(key);
      if (key === this.#lastKey) this.#lastKey = undefined;
      index.end();
      return index;
    }
    return undefined;
  }
}
