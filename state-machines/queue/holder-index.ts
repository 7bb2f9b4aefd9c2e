// The wait groups of one holder are in one queue, so the holder's cap holds them back or releases them at once. Groups
// that wait for the pool's token are separate, for the same reason.
import type { PoolState } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { isFull } from "../rules/holder.ts";
import { isGood } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";
import { addTo, deleteFrom } from "../structures/multimap.ts";
import type { HolderQueue, HolderQueues, WaitGroup } from "./wait-group.ts";

export class HolderIndex {
  readonly #state: PoolState;
  readonly #ofHolder = new Map<string, Set<HolderQueue>>();
  readonly #forTokens = new Set<HolderQueue>();

  constructor(state: PoolState) {
    this.#state = state;
  }

  enter(group: WaitGroup, among: HolderQueues): void {
    const { holder, token } = group;
    const key = `${token ? "t" : "-"}${holder ?? ""}`;
    let queue = among.all.get(key);
    if (queue === undefined) {
      const groups = new Heap<"place", WaitGroup>("place", (a, b) => a.order < b.order);
      queue = { key, holder, token, groups, among, order: 0, place: -1 };
      among.all.set(key, queue);
      if (token) this.#forTokens.add(queue);
      if (holder !== undefined) addTo(this.#ofHolder, holder, queue);
    }
    queue.groups.set(group);
    group.queue = queue;
    this.#place(queue);
  }

  leave(group: WaitGroup): void {
    const { queue } = group;
    if (queue === null) return;
    queue.groups.delete(group);
    this.#place(queue);
    group.queue = null;
  }

  holderChanged(holder: string): void {
    for (const queue of this.#ofHolder.get(holder) ?? []) this.#place(queue);
  }

  poolTokenChanged(): void {
    for (const queue of this.#forTokens) this.#place(queue);
  }

  /** Whether its holder is at the cap, or the pool's token is missing. */
  isHeld({ holder, token }: Pick<WaitGroup, "holder" | "token">): boolean {
    const state = this.#state;
    if (isFull(state, holder)) return true;
    return token && state.rules.policy.token?.scope === "pool" && !isGood(state, state.tokens.get(poolKey));
  }

  /** Places the queue by its first group. While it is held back, it is not among the free ones. */
  #place(queue: HolderQueue): void {
    const { groups, holder, among } = queue;
    if (groups.top === undefined) {
      among.free.delete(queue);
      among.all.delete(queue.key);
      this.#forTokens.delete(queue);
      if (holder !== undefined) deleteFrom(this.#ofHolder, holder, queue);
      return;
    }
    queue.order = groups.top.order;
    if (this.isHeld(queue)) among.free.delete(queue);
    else among.free.set(queue);
  }
}
