// Of an index for proxies that want a token: those that match and cannot be given one now, since it is being fetched, or a
// failed refresh backs off. They are not among the index's proxies; when the first of them will be is asked here.

import type { PoolState, Proxy } from "../fold/state.ts";
import { leasableAt } from "../rules/exit.ts";
import { isGood, mayRefresh } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";

interface Paused {
  proxy: Proxy;
  /** Until its refresh is over at the latest, or until the next one may begin. */
  until: number;
  fetchPlace: number;
  pausePlace: number;
}

export class Pauses {
  readonly #state: PoolState;
  readonly #paused = new Map<Proxy, Paused>();
  readonly #fetched = new Heap<"fetchPlace", Paused>("fetchPlace", (a, b) => a.until < b.until);
  readonly #backingOff = new Heap<"pausePlace", Paused>("pausePlace", (a, b) => a.until < b.until);

  constructor(state: PoolState) {
    this.#state = state;
  }

  clear(): void {
    this.#paused.clear();
    this.#fetched.clear();
    this.#backingOff.clear();
  }

  /** @param suits whether the index's labels and schemes are the proxy's. */
  place(proxy: Proxy, suits: boolean): void {
    const state = this.#state;
    const token = state.tokens.get(proxy.id);
    const known = this.#paused.get(proxy);
    if (known !== undefined) {
      this.#fetched.delete(known);
      this.#backingOff.delete(known);
    }
    if (token === undefined || !suits || isGood(state, token) || mayRefresh(state, token)) {
      this.#paused.delete(proxy);
      return;
    }
    const paused = known ?? { proxy, until: 0, fetchPlace: -1, pausePlace: -1 };
    paused.until = token.refresh === null ? token.retryAt : token.deadlineAt;
    this.#paused.set(proxy, paused);
    if (token.refresh === null) this.#backingOff.set(paused);
    else this.#fetched.set(paused);
  }

  fetchingWithout(excluded: ReadonlySet<string>): number {
    let count = this.#fetched.size;
    for (const id of excluded) {
      const proxy = this.#state.proxies.get(id);
      const paused = proxy === undefined ? undefined : this.#paused.get(proxy);
      if (paused !== undefined && this.#fetched.has(paused)) count--;
    }
    return count;
  }

  /**
   * When the first refresh under way is over at the latest; where none is, from when on the first of those that back off
   * may be fetched, through its proxy, which must be free then. Infinity: there is none.
   */
  until(minUses: number, excluded: ReadonlySet<string>): number {
    for (const { proxy, until } of this.#fetched.inOrder()) if (!excluded.has(proxy.id)) return until;
    let earliest = Infinity;
    // In the order of their pauses: one that ends later than another could be had is not looked at.
    for (const { proxy, until } of this.#backingOff.inOrder()) {
      if (until >= earliest) break;
      if (excluded.has(proxy.id)) continue;
      earliest = Math.min(earliest, Math.max(until, leasableAt(this.#state, proxy, minUses)));
    }
    return earliest;
  }
}
