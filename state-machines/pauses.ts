// Of a demand for proxies that want a token: those that match and cannot be given one now, since it is being fetched, or a
// failed refresh backs off. They are not among the demand's proxies; when the first of them will be is asked here.
import { leasableAt } from "./exit.ts";
import { Heap } from "./heap.ts";
import type { PoolState, Proxy } from "./state.ts";
import { isGood, mayRefresh } from "./token.ts";

interface Paused {
  proxy: Proxy;
  fetching: boolean;
  until: number;
  place: number;
}

export class Pauses {
  readonly #state: PoolState;
  readonly #paused = new Map<Proxy, Paused>();
  readonly #inOrder = new Heap<"place", Paused>("place", (a, b) => a.until < b.until);
  /** How many of them are being fetched. */
  fetching = 0;

  constructor(state: PoolState) {
    this.#state = state;
  }

  clear(): void {
    this.fetching = 0;
    this.#paused.clear();
    this.#inOrder.clear();
  }

  /** @param suits whether the demand's labels and schemes are the proxy's. */
  place(proxy: Proxy, suits: boolean): void {
    const state = this.#state;
    const token = state.tokens.get(proxy.id);
    const known = this.#paused.get(proxy);
    if (known?.fetching === true) this.fetching--;
    if (token === undefined || !suits || isGood(state, token) || mayRefresh(state, token)) {
      if (known === undefined) return;
      this.#paused.delete(proxy);
      this.#inOrder.delete(known);
      return;
    }
    const paused = known ?? { proxy, fetching: false, until: 0, place: -1 };
    paused.fetching = token.refresh !== null;
    paused.until = token.refresh === null ? token.retryAt : token.deadlineAt;
    if (paused.fetching) this.fetching++;
    this.#paused.set(proxy, paused);
    this.#inOrder.set(paused);
  }

  fetchingWithout(excluded: ReadonlySet<string>): number {
    let count = this.fetching;
    for (const id of excluded) {
      const proxy = this.#state.proxies.get(id);
      if (proxy !== undefined && this.#paused.get(proxy)?.fetching === true) count--;
    }
    return count;
  }

  /** When the first may be given a token, or its refresh is over at the latest; Infinity: there is none. */
  until(minUses: number): number {
    const first = this.#inOrder.top;
    if (first === undefined) return Infinity;
    return first.fetching ? first.until : Math.max(first.until, leasableAt(this.#state, first.proxy, minUses));
  }
}
