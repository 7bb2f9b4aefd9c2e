// A candidate index serves all lease requests with the same labels, schemes and minimum of uses. It keeps the matching
// proxies in the strategy's order, by exit. Three operations cost O(log n): choosing one, counting what holds the
// others back, and finding when the next is free. All of it is derived from the state.
//
// An exit's matching proxies form a group. A group is in `ready` while one of its proxies can be leased or its usage
// rest is due. It is in `timed` while time alone will change that.
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { bitOf, heldBack, heldUntil, holdNames, leasableAt, roomAt, roomOf } from "../rules/exit.ts";
import { meets } from "../rules/token.ts";
import { addTo } from "../structures/multimap.ts";
import { NumberHeap } from "../structures/number-heap.ts";
import { WeightedSampler } from "../structures/weighted-sampler.ts";
import { type Chance, sample } from "./bandit.ts";
import {
  addSeat,
  byRestOf,
  endTurns,
  freeCount,
  freeOf,
  type Group,
  Groups,
  isResting,
  isSeated,
  rankBefore,
  rankSeat,
  removeSeat,
  restingCount,
  topOf,
} from "./group.ts";
import { drawLot, type Lots } from "./lots.ts";
import { Pauses } from "./pauses.ts";
import { type Rank, type Strategy, strategyOf } from "./strategies.ts";
import { keyOf, suits, type Terms } from "./terms.ts";

const restPlace = holdNames.indexOf("rest");
const restBit = bitOf("rest");

/** The chosen proxy and the reasons, or the next exit in order if its usage rest is due. */
export type Chosen = { proxy: Proxy; ranked: Record<string, number> } | { restIsDue: Exit };

export class CandidateIndex {
  readonly terms: Terms;
  readonly key: string;
  /** Groups with a proxy that can be leased, by its rank. */
  readonly ready = new NumberHeap(3);
  /** Groups whose place in `ready` will change with time alone, ordered by that time. */
  readonly timed = new NumberHeap(1);
  /** Groups without a proxy that can be leased, ordered by the time at which one could be, if nothing more happened. */
  readonly #blocked = new NumberHeap(1);
  /** Matching proxies that each rule holds back, by its place among `holdNames`. */
  readonly #held = holdNames.map(() => 0);
  leasable = 0;
  /** Matching proxies, resting or not. */
  size = 0;
  /** Those of them that share an exit, and so its limits, with another one. */
  sharing = 0;
  /** Grows whenever another proxy may have become ready. */
  changes = 0;
  readonly #state: PoolState;
  /** Exits of which no proxy is chosen. */
  readonly barred = new Set<Exit>();
  #groups = new Groups();
  readonly #pauses: Pauses | undefined;
  /** A lot for each proxy that can be leased (or whose usage rest is due), where the strategy draws lots. */
  readonly #sampler: Lots = new WeightedSampler("samplePlace");
  #strategy: Strategy;
  /** Proxies that were not visited yet, and those added meanwhile. */
  #unseen: Iterator<Proxy> | undefined;

  /** Seats no proxy yet: call `build`. */
  constructor(state: PoolState, terms: Terms) {
    this.#state = state;
    this.terms = terms;
    this.key = keyOf(terms, terms.need);
    this.#strategy = strategyOf(state);
    if (terms.need === "wanting") this.#pauses = new Pauses(state);
    this.begin();
  }

  get isBuilt(): boolean {
    return this.#unseen === undefined;
  }

  /** How many matching proxies each rule holds back. */
  get held(): ReturnType<typeof heldBack> {
    return heldBack(this.#state, (i) => this.#held[i]!);
  }

  /** Visits this many more proxies. Returns true when all have been visited. */
  build(most: number): boolean {
    for (let i = 0; i < most && this.#unseen !== undefined; i++) {
      const next = this.#unseen.next();
      if (next.done === true) this.#unseen = undefined;
      else {
        this.place(next.value);
        this.reassess(next.value.account);
      }
    }
    return this.isBuilt;
  }

  begin(): void {
    this.ready.clear();
    this.timed.clear();
    this.#blocked.clear();
    this.#sampler.clear();
    this.#groups.end();
    this.#groups = new Groups();
    this.#strategy = strategyOf(this.#state);
    this.#held.fill(0);
    this.size = 0;
    this.sharing = 0;
    this.leasable = 0;
    this.#pauses?.clear();
    this.#unseen = this.#state.proxies.values();
  }

  /** Call it when the index is no longer used. */
  end(): void {
    this.#groups.end();
  }

  matches(proxy: Proxy): boolean {
    return suits(proxy, this.terms) && (this.terms.need === undefined || meets(this.#state, proxy, this.terms.need));
  }

  /** A proxy was added, retired, rested or revived, or its rank has changed. Its exit must be reassessed afterwards. */
  place(proxy: Proxy): void {
    this.#pauses?.place(proxy, suits(proxy, this.terms));
    const group = this.#groups.of(proxy.account);
    const seated = group !== undefined && isSeated(group, proxy);
    if (!this.matches(proxy)) {
      if (seated) this.#unseat(group, proxy);
    } else if (!seated) this.#seat(proxy, group);
    else if (group.many !== null) rankSeat(this.#state, group.many, group.many.seats.get(proxy)!); // Seated: it has a seat.
  }

  /** The proxy belongs to another exit from now on. */
  leave(proxy: Proxy, exit: Exit): void {
    const group = this.#groups.of(exit);
    if (group !== undefined && isSeated(group, proxy)) this.#unseat(group, proxy);
  }

  reassess(exit: Exit): void {
    const group = this.#groups.of(exit);
    if (group === undefined) return;
    const state = this.#state;
    this.#count(group, -1);
    if (group.many !== null) endTurns(state, group.many);
    const top = topOf(group);
    const { minUses } = this.terms;
    const room = roomOf(state, exit, minUses);
    group.held = room.held;
    group.restIsDue = room.restIsDue && top !== null;
    group.resting = restingCount(group);
    this.#count(group, 1);
    if (top !== null && !this.barred.has(exit) && (room.held === 0 || group.restIsDue)) {
      const rank = this.#strategy.rank(state, top);
      this.ready.set(group.number, rank[0], rank[1], rank[2]);
      this.changes++;
      if (this.#strategy.draws !== undefined) this.#sampler.set(group, freeCount(group));
      this.#blocked.delete(group.number);
      setOrDelete(this.timed, group, this.#strategy.changesAt?.(state, top) ?? Infinity);
    } else {
      this.ready.delete(group.number);
      this.#sampler.delete(group);
      // An event that is due and not recorded yet (the end of a rest) changes it at the next look.
      const leasableOn = Math.max(this.#leasableFrom(group), state.at + 1);
      setOrDelete(this.#blocked, group, leasableOn);
      setOrDelete(this.timed, group, Math.max(Math.min(heldUntil(state, exit, minUses), leasableOn), state.at + 1));
    }
  }

  /** No proxy of the exit is chosen until `unbar`. */
  bar(exit: Exit): void {
    this.barred.add(exit);
    this.reassess(exit);
  }

  unbar(): void {
    const exits = [...this.barred];
    this.barred.clear();
    for (const exit of exits) this.reassess(exit);
  }

  /** Brings the groups up to the state's time. */
  advance(): void {
    while (this.timed.least <= this.#state.at) this.reassess(this.#groups.at(this.timed.top).exit);
  }

  /** The strategy's choice. Call `advance` first. @param chance absent: the first in order, even if it draws. */
  choose(excluded: ReadonlySet<string>, chance?: Chance): Chosen | undefined {
    const { draws } = this.#strategy;
    if (chance !== undefined && draws === "lot") return this.#drawLot(excluded, chance);
    if (chance !== undefined && draws === "sample") return this.#sample(excluded, chance);
    if (excluded.size === 0) {
      if (this.ready.size === 0) return undefined;
      const group = this.#groups.at(this.ready.top);
      return this.#chosen(group, topOf(group)!); // Ready means that one is free.
    }
    let best: { group: Group; proxy: Proxy; rank: Rank } | undefined;
    for (const number of this.ready.inOrder()) {
      if (best !== undefined && rankBefore(best.rank, this.ready.keyOf(number))) break;
      const group = this.#groups.at(number);
      for (const proxy of freeOf(group)) {
        if (excluded.has(proxy.id)) continue;
        const rank = this.#strategy.rank(this.#state, proxy);
        if (best === undefined || rankBefore(rank, best.rank)) best = { group, proxy, rank };
        break;
      }
    }
    return best === undefined ? undefined : this.#chosen(best.group, best.proxy);
  }

  /** The first instant from which a matching proxy could be leased, if nothing more happened. Infinity: unknown. */
  leasableAt(excluded: ReadonlySet<string>): number {
    const chosen = this.choose(excluded);
    if (chosen !== undefined && "proxy" in chosen) return this.#state.at;
    let earliest = Infinity;
    // Every free proxy of a ready group is excluded, or its exit must rest first. So these groups are few.
    for (const number of this.ready.all()) earliest = Math.min(earliest, this.#leasableWithout(number, excluded));
    for (const number of this.#blocked.inOrder()) {
      if (this.#blocked.keyOf(number)[0] >= earliest) break;
      earliest = Math.min(earliest, this.#leasableWithout(number, excluded));
    }
    return earliest;
  }

  excludedMatches(excluded: ReadonlySet<string>): number {
    let count = 0;
    for (const id of excluded) {
      const proxy = this.#state.proxies.get(id);
      if (proxy !== undefined && this.matches(proxy)) count++;
    }
    return count;
  }

  #chosen(group: Group, proxy: Proxy, ranked?: Record<string, number>): Chosen {
    if (group.restIsDue) return { restIsDue: group.exit };
    return { proxy, ranked: ranked ?? this.#strategy.figures(this.#state, proxy) };
  }

  #drawLot(excluded: ReadonlySet<string>, { draw }: Chance): Chosen | undefined {
    const barred = new Map<Group, Set<Proxy>>();
    for (const id of excluded) {
      const proxy = this.#state.proxies.get(id);
      const group = proxy === undefined ? undefined : this.#groups.of(proxy.account);
      if (proxy === undefined || group === undefined || !this.#isReady(group, proxy)) continue;
      addTo(barred, group, proxy);
    }
    const drawn = drawLot(this.#sampler, barred, draw);
    return drawn && this.#chosen(drawn.group, drawn.proxy, drawn.ranked);
  }

  #sample(excluded: ReadonlySet<string>, chance: Chance): Chosen | undefined {
    const isFree = (proxy: Proxy): boolean => {
      const group = this.#groups.of(proxy.account);
      return group !== undefined && this.#isReady(group, proxy) && !excluded.has(proxy.id);
    };
    const winner = sample(this.#state, { inOrder: this.#bestFree(excluded), isFree, lots: this.#sampler }, chance);
    const group = winner && this.#groups.of(winner.proxy.account);
    return group && this.#chosen(group, winner.proxy, winner.ranked);
  }

  /** The best of each ready exit, in order. */
  *#bestFree(excluded: ReadonlySet<string>): Generator<Proxy> {
    for (const number of this.ready.inOrder()) {
      for (const proxy of freeOf(this.#groups.at(number))) {
        if (excluded.has(proxy.id)) continue;
        yield proxy;
        break;
      }
    }
  }

  #isReady(group: Group, proxy: Proxy): boolean {
    return isSeated(group, proxy) && this.ready.has(group.number) && !isResting(proxy);
  }

  /** When the first proxy that waits for a token may be given one. Infinity: none waits. */
  pausedUntil(excluded: ReadonlySet<string>): number {
    return this.#pauses?.until(this.terms.minUses, excluded) ?? Infinity;
  }

  /** How many matching proxies have a refresh under way, without the excluded ones. */
  fetchingWithout(excluded: ReadonlySet<string>): number {
    return this.#pauses?.fetchingWithout(excluded) ?? 0;
  }

  #leasableWithout(number: number, excluded: ReadonlySet<string>): number {
    let earliest = Infinity;
    const from = this.#blocked.has(number) ? this.#blocked.keyOf(number)[0] : 0;
    for (const proxy of byRestOf(this.#groups.at(number))) {
      if (earliest <= Math.max(from, proxy.until)) break;
      if (!excluded.has(proxy.id)) earliest = Math.min(earliest, leasableAt(this.#state, proxy, this.terms.minUses));
    }
    return earliest;
  }

  /**
   * No proxy of the group can be leased before this instant. In a group of many, the exact instant is found when a
   * request asks.
   */
  #leasableFrom(group: Group): number {
    const { minUses } = this.terms;
    if (group.only !== null) return leasableAt(this.#state, group.only, minUses);
    const [first] = byRestOf(group);
    return Math.max(roomAt(this.#state, group.exit, minUses), first?.until ?? Infinity);
  }

  #seat(proxy: Proxy, group: Group | undefined): void {
    this.size++;
    if (group === undefined) return this.#count(this.#groups.add(proxy), 1);
    this.#count(group, -1);
    addSeat(this.#state, group, proxy);
    this.#count(group, 1);
  }

  #unseat(group: Group, proxy: Proxy): void {
    this.#count(group, -1);
    this.size--;
    removeSeat(group, proxy);
    if (group.size > 0) {
      group.resting = group.many?.resting.size ?? 0;
      this.#count(group, 1);
      return;
    }
    this.ready.delete(group.number);
    this.timed.delete(group.number);
    this.#blocked.delete(group.number);
    this.#sampler.delete(group);
    this.#groups.delete(group);
  }

  #count(group: Group, sign: 1 | -1): void {
    const { held, size, resting } = group;
    for (let i = 0; i < restPlace; i++) if ((held & (1 << i)) !== 0) this.#held[i]! += sign * size;
    this.#held[restPlace]! += sign * ((held & restBit) !== 0 ? size : resting);
    if (held === 0) this.leasable += sign * (size - resting);
    if (size > 1) this.sharing += sign * size;
  }
}

function setOrDelete(heap: NumberHeap, { number }: Group, at: number): void {
  if (at === Infinity) heap.delete(number);
  else heap.set(number, at);
}
