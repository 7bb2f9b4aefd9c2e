// The index of choices: the demands that wishes have made so far, kept in step with the state. Bounded: the demand
// used longest ago is dropped, and built again when a wish asks for it. Demands that wishes wait for are kept.
import type { LeaseRequest } from "../events/lease.ts";
import { Demand } from "./demand.ts";
import type { Exit, PoolState, Proxy, Watcher } from "./state.ts";
import type { Need } from "./token.ts";

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

/** Each demand costs every grant O(log n) and a few dozen bytes a matching proxy. */
export const demandsMax = 128;

export class Choice implements Watcher {
  readonly #state: PoolState;
  readonly #demands = new Map<string, Demand>();
  readonly #kept = new Map<Demand, number>();
  readonly #proxies = new Set<Proxy>();
  readonly #exits = new Set<Exit>();
  #everything = false;

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

  everythingMoved(): void {
    this.#everything = true;
  }

  /** The demand that a wish makes, up to date; undefined where too many others are waited for. */
  demandOf(wish: Asking, need?: Need): Demand | undefined {
    this.settle();
    const key = need === undefined ? keyOf(wish) : `${need} ${keyOf(wish)}`;
    let demand = this.#demands.get(key);
    if (demand !== undefined) this.#demands.delete(key);
    else {
      if (this.#demands.size >= demandsMax && !this.#dropOldest()) return undefined;
      const { labels, schemes, minUses } = wish;
      demand = new Demand(this.#state, { labels, schemes: schemes?.toSorted(), minUses, need });
    }
    this.#demands.set(key, demand);
    demand.advance();
    return demand;
  }

  /** All that a wish looks at; undefined as above. */
  demandsOf(wish: Asking & Pick<LeaseRequest, "token">): Demands | undefined {
    const plain = this.demandOf(wish);
    if (plain === undefined) return undefined;
    if (wish.token !== true || this.#state.rules.policy.token?.scope !== "proxy") return { plain, able: plain };
    const able = this.demandOf(wish, "good");
    const wanting = this.demandOf(wish, "wanting");
    return able === undefined || wanting === undefined ? undefined : { plain, able, wanting };
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
      for (const demand of this.#demands.values()) demand.rebuild();
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

  #dropOldest(): boolean {
    for (const [key, demand] of this.#demands) {
      if (this.#kept.has(demand)) continue;
      this.#demands.delete(key);
      return true;
    }
    return false;
  }
}

function keyOf({ labels, schemes, minUses }: Asking): string {
  const sorted = labels === undefined ? [] : Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.length === 0 && schemes === undefined
    ? `${minUses}`
    : JSON.stringify([minUses, sorted, schemes?.toSorted() ?? []]);
}
