// The candidate indexes that lease requests have needed so far, kept in step with the state. Bounded: the index used
// longest ago is dropped, and built again when a request needs it. Indexes that requests wait for are kept.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Exit, PoolState, Proxy, Watcher } from "../fold/state.ts";
import type { Need } from "../rules/token.ts";
import { CandidateIndex } from "./candidate-index.ts";
import { keyOf } from "./terms.ts";

type Asking = Pick<LeaseRequest, "labels" | "schemes" | "minUses">;

/**
 * The indexes that serve a lease request. Where each proxy has a token of its own, a request with a token uses three.
 */
export interface CandidateIndexes {
  /** Matching proxies, whatever their tokens. */
  plain: CandidateIndex;
  /** Proxies that could serve the request: the same index, or those with a good token. */
  able: CandidateIndex;
  /** Those without a good token that may be given one. Absent: the pool has one token, or the request needs none. */
  wanting?: CandidateIndex;
}

/** Each index costs every grant O(log n). */
export const indexesMax = 128;
/** Of all indexes together, about 250 bytes each; the one that most requests need is kept whatever there is. */
const seatsMax = 4_000_000;
/** This many proxies are visited within a few milliseconds. */
const lookedAtOnce = 10_000;

export class Candidates implements Watcher {
  readonly #state: PoolState;
  readonly #indexes = new Map<string, CandidateIndex>();
  /** Of the index that was asked for last: it is the last in the map. */
  #lastKey: string | undefined;
  /** How often each index is pinned. */
  readonly #pinned = new Map<CandidateIndex, number>();
  /** Asked for in this turn and in the last by those who wait until they are built, and others with them. */
  #asked = new Set<CandidateIndex>();
  #askedBefore = new Set<CandidateIndex>();
  readonly #proxies = new Set<Proxy>();
  readonly #exits = new Set<Exit>();
  #everything = false;
  #isRebuilding = false;

  constructor(state: PoolState) {
    this.#state = state;
    state.watcher = this;
  }

  proxyMoved(proxy: Proxy): void {
    this.#proxies.add(proxy);
  }

  exitMoved(exit: Exit): void {
    this.#exits.add(exit);
  }

  proxyLeft(proxy: Proxy, exit: Exit): void {
    for (const index of this.#indexes.values()) index.leave(proxy, exit);
    this.#exits.add(exit);
    this.#proxies.add(proxy);
  }

  everythingMoved(): void {
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

  /** All that a lease request looks at; undefined as above. */
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

  /**
   * Would `indexesFor` answer at once? Where there are so many proxies that it would not, the indexes are begun here, and
   * `build` goes on with them, turn by turn. A caller that gets `false` retries in the next turn. The indexes
   * are pinned until then.
   */
  isReady(request: Asking & Pick<LeaseRequest, "token">): boolean {
    if (this.isRebuilding) return false;
    const plain = this.#begun(request);
    // What the refresh that may follow is looked for among, too.
    const all = this.#hasOwnTokens(request)
      ? [plain, this.#begun(request, "good"), this.#begun(request, "wanting"), this.#begun({ minUses: 1 }, "due")]
      : [plain];
    const begun = all.filter((index) => index !== undefined);
    if (begun.length < all.length || begun.every(({ isBuilt }) => isBuilt)) return true;
    for (const index of begun) this.#asked.add(index);
    return false;
  }

  /**
   * Undefined if there are few proxies (the index is made at once) or no room for it (the request is refused at once).
   */
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

  /** Does it look for a proxy's own token? */
  #hasOwnTokens({ token }: Pick<LeaseRequest, "token">): boolean {
    return token === true && this.#state.rules.policy.token?.scope === "proxy";
  }

  /**
   * After a change of policy, every index is rebuilt turn by turn if there are very many proxies. Nothing is granted
   * meanwhile. Otherwise a request could get a proxy for which an earlier one waits whose index is not built yet.
   */
  get isRebuilding(): boolean {
    this.settle();
    return this.#isRebuilding;
  }

  /** Goes on with one of those that have been begun. Returns whether there is more to do. */
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
    return left > 0 || wasRebuilding; // Who has waited for it is served in another turn.
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
    if (this.#everything) {
      for (const index of this.#indexes.values()) {
        const wasBuilt = index.isBuilt;
        index.begin();
        if (!wasBuilt) continue;
        if (this.#state.proxies.size <= lookedAtOnce) index.build(Infinity);
        else this.#isRebuilding = true;
      }
    } else {
      for (const proxy of this.#proxies) {
        this.#exits.add(proxy.account);
        for (const index of this.#indexes.values()) index.place(proxy);
      }
      for (const exit of this.#exits) for (const index of this.#indexes.values()) index.reassess(exit);
    }
    this.#everything = false;
    this.#proxies.clear();
    this.#exits.clear();
  }

  /** Undefined: there are too many that cannot be dropped. */
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
