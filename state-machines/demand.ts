// A demand is what many wishes have in common: labels, schemes and the fewest uses. Each demand keeps the proxies that
// match it in the strategy's order, by exit, so that picking one, counting what holds the others back, and saying when
// the next will be free cost O(log n) however many proxies there are. All of it is derived from the state.
//
// An exit's matching proxies form a group. A group stands in `ready` while one of them can be leased (or its usage rest
// is due), ordered by its best one; and in `timed` while time alone will change that.
import type { Labels } from "../events/ids.ts";
import type { Scheme } from "../events/proxy-line.ts";
import { heldBy, heldUntil, leasableAt, restOver, roomAt, roomOf } from "./exit.ts";
import { Heap } from "./heap.ts";
import type { Exit, PoolState, Proxy } from "./state.ts";
import { type Rank, rankChangesAt, rankOf } from "./strategy.ts";

export interface Terms {
  labels?: Labels | undefined;
  schemes?: readonly Scheme[] | undefined;
  minUses: number;
}

interface Seat {
  proxy: Proxy;
  rank: Rank;
  until: number;
  freePlace: number;
  restPlace: number;
}

export interface Group {
  exit: Exit;
  /** Nearly every exit has one proxy; only the others pay for heaps. */
  only: Proxy | null;
  many: { seats: Map<Proxy, Seat>; free: Heap<"freePlace", Seat>; resting: Heap<"restPlace", Seat> } | null;
  size: number;
  resting: number;
  held: number;
  restIsDue: boolean;
  rank: Rank;
  /** When time alone changes what holds it back, or its rank. */
  changesAt: number;
  /** When one of them could be leased, if nothing more happened. */
  leasableAt: number;
  readyPlace: number;
  timedPlace: number;
  blockedPlace: number;
}

const noRank: Rank = [0, 0, 0];
export const rankBefore = (a: Rank, b: Rank): boolean =>
  a[0] !== b[0] ? a[0] < b[0] : a[1] !== b[1] ? a[1] < b[1] : a[2] < b[2];

export class Demand {
  readonly terms: Terms;
  readonly ready = new Heap<"readyPlace", Group>("readyPlace", (a, b) => rankBefore(a.rank, b.rank));
  readonly timed = new Heap<"timedPlace", Group>("timedPlace", (a, b) => a.changesAt < b.changesAt);
  readonly #blocked = new Heap<"blockedPlace", Group>("blockedPlace", (a, b) => a.leasableAt < b.leasableAt);
  /** Matching proxies that each rule holds back. */
  readonly held = { rate: 0, concurrency: 0, usage: 0, rest: 0 };
  /** Matching proxies that could be leased now. */
  leasable = 0;
  /** Matching proxies, resting or not. */
  size = 0;
  /** Grows whenever another one may have become ready. */
  changes = 0;
  readonly #state: PoolState;
  readonly #groups = new Map<Exit, Group>();

  constructor(state: PoolState, terms: Terms) {
    this.#state = state;
    this.terms = terms;
    this.rebuild();
  }

  rebuild(): void {
    this.ready.clear();
    this.timed.clear();
    this.#blocked.clear();
    this.#groups.clear();
    Object.assign(this.held, { rate: 0, concurrency: 0, usage: 0, rest: 0 });
    this.size = 0;
    this.leasable = 0;
    for (const proxy of this.#state.proxies.values()) this.#seat(proxy);
    for (const exit of this.#groups.keys()) this.reassess(exit);
  }

  matches(proxy: Proxy): boolean {
    if (proxy.state === "retired") return false;
    const { labels, schemes } = this.terms;
    if (schemes !== undefined && !schemes.includes(proxy.scheme)) return false;
    if (labels === undefined) return true;
    for (const key in labels) if (proxy.labels[key] !== labels[key]) return false;
    return true;
  }

  /** A proxy has been added, retired, rested, woken, or ranks otherwise. Its exit must be reassessed afterwards. */
  place(proxy: Proxy): void {
    const group = this.#groups.get(proxy.account);
    const seated = group !== undefined && (group.only === proxy || group.many?.seats.has(proxy) === true);
    if (!this.matches(proxy)) {
      if (seated) this.#unseat(group, proxy);
    } else if (!seated) this.#seat(proxy);
    else if (group.many !== null) this.#rank(group.many, group.many.seats.get(proxy)!); // Seated, so it has a seat.
  }

  /** Works out anew where the exit's group stands. */
  reassess(exit: Exit): void {
    const group = this.#groups.get(exit);
    if (group === undefined) return;
    const state = this.#state;
    this.#count(group, -1);
    const top = topOf(group);
    const room = roomOf(state, exit, this.terms.minUses);
    group.held = room.held;
    group.restIsDue = room.restIsDue && top !== null;
    group.resting = group.only === null ? (group.many?.resting.size ?? 0) : isResting(group.only) ? 1 : 0;
    this.#count(group, 1);
    if (top !== null && (room.held === 0 || group.restIsDue)) {
      group.rank = rankOf(state, top);
      this.ready.set(group);
      this.changes++;
      this.#blocked.delete(group);
      group.changesAt = rankChangesAt(state, exit, state.rules.policy.strategy.kind);
    } else {
      this.ready.delete(group);
      // What was due already and has not happened yet (a rest's end to be recorded) happens at the next look.
      group.leasableAt = Math.max(this.#leasableAt(group, top), state.at + 1);
      if (group.leasableAt === Infinity) this.#blocked.delete(group);
      else this.#blocked.set(group);
      const { minUses } = this.terms;
      group.changesAt = Math.max(Math.min(heldUntil(state, exit, minUses), group.leasableAt), state.at + 1);
    }
    if (group.changesAt === Infinity) this.timed.delete(group);
    else this.timed.set(group);
  }

  /** Brings the groups up to the state's time. */
  advance(): void {
    for (let group = this.timed.top; group !== undefined && group.changesAt <= this.#state.at; group = this.timed.top) {
      this.reassess(group.exit);
    }
  }

  /**
   * The best proxy that can be leased, or the exit whose usage rest is due and comes before it, or what is missing.
   * Call `advance` first.
   */
  choose(excluded: ReadonlySet<string>): Proxy | { restIsDue: Exit } | undefined {
    if (excluded.size === 0) {
      const group = this.ready.top;
      if (group === undefined) return undefined;
      return group.restIsDue ? { restIsDue: group.exit } : topOf(group)!; // Ready means that one is free.
    }
    let best: { group: Group; proxy: Proxy; rank: Rank } | undefined;
    for (const group of this.ready.inOrder()) {
      if (best !== undefined && rankBefore(best.rank, group.rank)) break;
      for (const proxy of freeOf(group)) {
        if (excluded.has(proxy.id)) continue;
        const rank = rankOf(this.#state, proxy);
        if (best === undefined || rankBefore(rank, best.rank)) best = { group, proxy, rank };
        break;
      }
    }
    if (best === undefined) return undefined;
    return best.group.restIsDue ? { restIsDue: best.group.exit } : best.proxy;
  }

  /** The first instant from which one of them could be leased, if nothing more happened. Infinity: none is known. */
  leasableAt(excluded: ReadonlySet<string>): number {
    if (excluded.size === 0 && this.ready.size === 0) return this.#blocked.top?.leasableAt ?? Infinity;
    let earliest = Infinity;
    // Those that are ready have free proxies, all of them excluded, or one would have been chosen: they are few. (Of a
    // wish that its session or holder holds back, ask `choose` first.)
    for (const group of this.ready.items) earliest = Math.min(earliest, this.#leasableWithout(group, excluded));
    for (const group of this.#blocked.inOrder()) {
      if (group.leasableAt >= earliest) break;
      earliest = Math.min(earliest, this.#leasableWithout(group, excluded));
    }
    return earliest;
  }

  /** How many matching proxies are among the excluded. */
  excludedMatches(excluded: ReadonlySet<string>): number {
    let count = 0;
    for (const id of excluded) {
      const proxy = this.#state.proxies.get(id);
      if (proxy !== undefined && this.matches(proxy)) count++;
    }
    return count;
  }

  #leasableWithout(group: Group, excluded: ReadonlySet<string>): number {
    let earliest = Infinity;
    for (const proxy of membersOf(group)) {
      if (!excluded.has(proxy.id)) earliest = Math.min(earliest, leasableAt(this.#state, proxy, this.terms.minUses));
    }
    return earliest;
  }

  #leasableAt(group: Group, free: Proxy | null): number {
    const { minUses } = this.terms;
    if (group.only !== null) return leasableAt(this.#state, group.only, minUses);
    const exitAt = roomAt(this.#state, group.exit, minUses);
    if (free !== null || exitAt === Infinity) return exitAt;
    let earliest = Infinity;
    for (const seat of group.many!.resting.inOrder()) {
      if (seat.until >= earliest) break;
      earliest = Math.min(earliest, restOver(this.#state, seat.proxy));
    }
    return Math.max(exitAt, earliest);
  }

  #seat(proxy: Proxy): void {
    if (!this.matches(proxy)) return;
    this.size++;
    const exit = proxy.account;
    const group = this.#groups.get(exit);
    if (group === undefined) {
      const first: Group = {
        exit,
        only: proxy,
        many: null,
        size: 1,
        resting: 0,
        held: 0,
        restIsDue: false,
        rank: noRank,
        changesAt: Infinity,
        leasableAt: Infinity,
        readyPlace: -1,
        timedPlace: -1,
        blockedPlace: -1,
      };
      this.#groups.set(exit, first);
      this.#count(first, 1);
      return;
    }
    this.#count(group, -1);
    group.size++;
    if (group.many === null) {
      group.many = {
        seats: new Map(),
        free: new Heap<"freePlace", Seat>("freePlace", (a, b) => rankBefore(a.rank, b.rank)),
        resting: new Heap<"restPlace", Seat>("restPlace", (a, b) => a.until < b.until),
      };
      if (group.only !== null) this.#addSeat(group.many, group.only);
      group.only = null;
    }
    this.#addSeat(group.many, proxy);
    this.#count(group, 1);
  }

  #addSeat(many: NonNullable<Group["many"]>, proxy: Proxy): void {
    const seat: Seat = { proxy, rank: noRank, until: 0, freePlace: -1, restPlace: -1 };
    many.seats.set(proxy, seat);
    this.#rank(many, seat);
  }

  #rank(many: NonNullable<Group["many"]>, seat: Seat): void {
    if (isResting(seat.proxy)) {
      many.free.delete(seat);
      seat.until = seat.proxy.until;
      many.resting.set(seat);
    } else {
      many.resting.delete(seat);
      // Whether the exit is spent (`drain`) moves the group as a whole, never its members among themselves.
      const [first, second, third] = rankOf(this.#state, seat.proxy);
      seat.rank = this.#state.rules.policy.strategy.kind === "drain" ? [0, second, third] : [first, second, third];
      many.free.set(seat);
    }
  }

  #unseat(group: Group, proxy: Proxy): void {
    this.#count(group, -1);
    this.size--;
    group.size--;
    if (group.many !== null) {
      const seat = group.many.seats.get(proxy)!; // Seated, so it has a seat.
      group.many.free.delete(seat);
      group.many.resting.delete(seat);
      group.many.seats.delete(proxy);
    }
    if (group.size > 0) {
      group.resting = group.many?.resting.size ?? 0;
      this.#count(group, 1);
      return;
    }
    this.ready.delete(group);
    this.timed.delete(group);
    this.#blocked.delete(group);
    this.#groups.delete(group.exit);
  }

  #count(group: Group, sign: 1 | -1): void {
    if ((group.held & heldBy.rate) !== 0) this.held.rate += sign * group.size;
    if ((group.held & heldBy.concurrency) !== 0) this.held.concurrency += sign * group.size;
    if ((group.held & heldBy.usage) !== 0) this.held.usage += sign * group.size;
    this.held.rest += sign * ((group.held & heldBy.rest) !== 0 ? group.size : group.resting);
    if (group.held === 0) this.leasable += sign * (group.size - group.resting);
  }
}

export function isResting(proxy: Proxy): boolean {
  return proxy.state === "cooling" || proxy.state === "exhausted";
}

function topOf(group: Group): Proxy | null {
  if (group.only !== null) return isResting(group.only) ? null : group.only;
  return group.many?.free.top?.proxy ?? null;
}

/** In order, the best first; as far as they are asked for. */
function* freeOf(group: Group): Generator<Proxy> {
  if (group.only === null) for (const seat of group.many?.free.inOrder() ?? []) yield seat.proxy;
  else if (!isResting(group.only)) yield group.only;
}

function membersOf(group: Group): Proxy[] {
  return group.only !== null ? [group.only] : [...(group.many?.seats.keys() ?? [])];
}
