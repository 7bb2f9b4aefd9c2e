// The index of choices: the demands that wishes have made so far, kept in step with the state. Bounded: the demand
// used longest ago is dropped, and built again when a wish asks for it. Demands that wishes wait for are kept.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Exit, PoolState, Proxy, Watcher } from "../fold/state.ts";
import type { Need } from "../rules/token.ts";
import { Demand } from "./candidate-index.ts";

type Asking = Pick<LeaseRequest, "labels" | "schemes" | "minUses">;

/** What a wish asks of the herd. Where each proxy has a token of its own, a wish for one looks at three demands. */
export interface Demands {
  /** Proxies that match, whatever their tokens. */
  plain: Demand;
  /** Those that could serve it: the same, or those with a good token. */
  able: Demand;
  /** Those without a good token that may be given one. Absent: the pool has one token, or the wish needs none. */
  wanting?: Demand;
}

/** Each demand costs every grant O(log n). */
export const demandsMax = 128;
/** Of all demands together, about 250 bytes each; the one that everybody's wishes make is kept whatever there is. */
const seatsMax = 4_000_000;
/** So many proxies are looked at within a few milliseconds. */
const lookedAtOnce = 10_000;

export class Choice implements Watcher {
  readonly #state: PoolState;
  readonly #demands = new Map<string, Demand>();
  /** Of the demand that was asked for last: it is the last in the map. */
  #lastKey: string | undefined;
  readonly #kept = new Map<Demand, number>();
  /** Asked for in this turn and in the last by those who wait until they are built, and others with them. */
  #asked = new Set<Demand>();
  #askedBefore = new Set<Demand>();
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
    for (const demand of this.#demands.values()) demand.leave(proxy, exit);
    this.#exits.add(exit);
    this.#proxies.add(proxy);
  }

  everythingMoved(): void {
    this.#everything = true;
  }

  /** The demand that a wish makes, up to date; undefined where too many others are waited for. */
  demandOf(wish: Asking, need?: Need): Demand | undefined {
    this.settle();
    const key = keyOf(wish, need);
    const demand = this.#demands.get(key) ?? this.#newDemand(wish, need);
    if (demand === undefined) return undefined;
    if (key !== this.#lastKey) {
      this.#demands.delete(key);
      this.#demands.set(key, demand);
      this.#lastKey = key;
    }
    demand.build(Infinity);
    demand.advance();
    return demand;
  }

  /** All that a wish looks at; undefined as above. */
  demandsOf(wish: Asking & Pick<LeaseRequest, "token">): Demands | undefined {
    const plain = this.demandOf(wish);
    if (plain === undefined) return undefined;
    if (!this.#hasOwnTokens(wish)) return { plain, able: plain };
    // None of them is dropped for another.
    this.keep(plain);
    const able = this.demandOf(wish, "good");
    if (able !== undefined) this.keep(able);
    const wanting = this.demandOf(wish, "wanting");
    this.letGo(plain);
    if (able !== undefined) this.letGo(able);
    return able === undefined || wanting === undefined ? undefined : { plain, able, wanting };
  }

  /**
   * Would `demandsOf` answer at once? Where there are so many proxies that it would not, the demands are begun here, and
   * `build` goes on with them, turn by turn. Who is told no asks again in the next turn: so long they stay.
   */
  isReady(wish: Asking & Pick<LeaseRequest, "token">): boolean {
    if (this.isRebuilding) return false;
    const plain = this.#begun(wish);
    // What the refresh that may follow is looked for among, too.
    const all = this.#hasOwnTokens(wish)
      ? [plain, this.#begun(wish, "good"), this.#begun(wish, "wanting"), this.#begun({ minUses: 1 }, "due")]
      : [plain];
    const begun = all.filter((demand) => demand !== undefined);
    if (begun.length < all.length || begun.every(({ isBuilt }) => isBuilt)) return true;
    for (const demand of begun) this.#asked.add(demand);
    return false;
  }

  /** Undefined: where they are few it is made at once, and where there is no room for it, it is refused at once. */
  #begun(wish: Asking, need?: Need): Demand | undefined {
    const key = keyOf(wish, need);
    const known = this.#demands.get(key);
    if (known !== undefined || this.#state.proxies.size <= lookedAtOnce) return known;
    const demand = this.#newDemand(wish, need);
    if (demand === undefined) return undefined;
    this.#demands.set(key, demand);
    this.#lastKey = key;
    return demand;
  }

  /** Does it look for a proxy's own token? */
  #hasOwnTokens({ token }: Pick<LeaseRequest, "token">): boolean {
    return token === true && this.#state.rules.policy.token?.scope === "proxy";
  }

  /**
   * After a change of policy, where there are very many proxies: every demand is worked out anew, turn by turn. Nothing is
   * chosen meanwhile, or a wish could be given what an earlier one, of a demand that is not there yet, waits for.
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
    for (const demand of this.#demands.values()) {
      if (demand.isBuilt) continue;
      if (left === 0) {
        this.settle();
        if (demand.build(lookedAtOnce)) continue;
      }
      left++;
    }
    if (left === 0) this.#isRebuilding = false;
    return left > 0 || wasRebuilding; // Who has waited for it is served in another turn.
  }

  /** A wish waits for this demand: it stays. */
  keep(demand: Demand): void {
    this.#kept.set(demand, (this.#kept.get(demand) ?? 0) + 1);
  }

  letGo(demand: Demand): void {
    const count = (this.#kept.get(demand) ?? 1) - 1;
    if (count === 0) this.#kept.delete(demand);
    else this.#kept.set(demand, count);
  }

  /** Passes on to the demands what has moved since the last time. */
  settle(): void {
    if (this.#everything) {
      for (const demand of this.#demands.values()) {
        const wasBuilt = demand.isBuilt;
        demand.begin();
        if (!wasBuilt) continue;
        if (this.#state.proxies.size <= lookedAtOnce) demand.build(Infinity);
        else this.#isRebuilding = true;
      }
    } else {
      for (const proxy of this.#proxies) {
        this.#exits.add(proxy.account);
        for (const demand of this.#demands.values()) demand.place(proxy);
      }
      for (const exit of this.#exits) for (const demand of this.#demands.values()) demand.reassess(exit);
    }
    this.#everything = false;
    this.#proxies.clear();
    this.#exits.clear();
  }

  /** Undefined: there are too many that cannot be dropped. */
  #newDemand({ labels, schemes, minUses }: Asking, need?: Need): Demand | undefined {
    let seats = 0;
    for (const demand of this.#demands.values()) seats += demand.size;
    while (seats > seatsMax) {
      const dropped = this.#dropOldest();
      if (dropped === undefined) break;
      seats -= dropped.size;
    }
    if (this.#demands.size >= demandsMax && this.#dropOldest() === undefined) return undefined;
    return new Demand(this.#state, { labels, schemes: schemes?.toSorted(), minUses, need });
  }

  #dropOldest(): Demand | undefined {
    for (const [key, demand] of this.#demands) {
      if (!demand.isBuilt || [this.#kept, this.#asked, this.#askedBefore].some((all) => all.has(demand))) continue;
      this.#demands.delete(key);
      if (key === this.#lastKey) this.#lastKey = undefined;
      demand.end();
      return demand;
    }
    return undefined;
  }
}

function keyOf({ labels, schemes, minUses }: Asking, need?: Need): string {
  const sorted = labels === undefined ? [] : Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const asked =
    sorted.length === 0 && schemes === undefined
      ? `${minUses}`
      : JSON.stringify([minUses, sorted, schemes?.toSorted() ?? []]);
  return need === undefined ? asked : `${need} ${asked}`;
}
