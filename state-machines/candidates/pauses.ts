// The matching proxies that want a token and cannot be given one now: a refresh is under way, or a failed one backs
// off. They are not in the index. This tells when the first of them will be.
import type { PoolState, Proxy } from "../fold/state.ts";
import { leasableAt } from "../rules/exit.ts";
import { isGood, mayRefresh } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";

interface Paused {
  proxy: Proxy;
  /** When its refresh is over at the latest, or when the next may begin. */
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

  /** @param suits whether the proxy has the index's labels and scheme. */
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

  /** When the first refresh under way is over at the latest. Without one: when another may begin. Infinity: never. */
  until(minUses: number, excluded: ReadonlySet<string>): number {
    for (const { proxy, until } of this.#fetched.inOrder()) if (!excluded.has(proxy.id)) return until;
    let earliest = Infinity;
    // They come in the order of their pauses. One whose pause ends too late needs no further look.
    for (const { proxy, until } of this.#backingOff.inOrder()) {
      if (until >= earliest) break;
      if (excluded.has(proxy.id)) continue;
      earliest = Math.min(earliest, Math.max(until, leasableAt(this.#state, proxy, minUses)));
    }
    return earliest;
  }
}
