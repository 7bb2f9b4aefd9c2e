// The proxies of one exit within an index: which are free, and in what order.
import type { Exit, GroupLink, PoolState, Proxy } from "../fold/state.ts";
import { Heap } from "../structures/heap.ts";
import { hasTurn, type Rank, rankInExit } from "./strategies.ts";

/** A proxy in a group of several. */
export interface Seat {
  proxy: Proxy;
  rank: Rank;
  until: number;
  freePlace: number;
  restPlace: number;
}

/** The proxies of a group of several. */
export interface Many {
  seats: Map<Proxy, Seat>;
  free: Heap<"freePlace", Seat>;
  resting: Heap<"restPlace", Seat>;
}

export interface Group extends GroupLink {
  readonly exit: Exit;
  readonly among: Groups;
  /** The next group of the same exit, in another index. */
  next: Group | null;
  /** Unique among its index's groups. A number is reused after its group is deleted. */
  readonly number: number;
  /** Nearly every exit has one proxy. Only the others pay for heaps. */
  only: Proxy | null;
  many: Many | null;
  size: number;
  resting: number;
  held: number;
  restIsDue: boolean;
  samplePlace: number;
}

const noRank: Rank = [0, 0, 0];
export const rankBefore = (a: Rank, b: Rank): boolean =>
  a[0] !== b[0] ? a[0] < b[0] : a[1] !== b[1] ? a[1] < b[1] : a[2] < b[2];

/** The groups of one index. An exit refers to its groups: a look-up in a map of a million costs more than a choice. */
export class Groups {
  readonly #all: Group[] = [];
  /** Numbers below its length that no group has. */
  readonly #free: number[] = [];
  #hasEnded = false;

  of(exit: Exit): Group | undefined {
    let group = exit.groups as Group | null; // Only groups are linked.
    for (; group !== null; group = group.next) if (group.among === this) return group;
    return undefined;
  }

  /** @param number of a group that is here. */
  at(number: number): Group {
    return this.#all[number]!;
  }

  /** A group for its first proxy, in no heap yet. */
  add(only: Proxy): Group {
    const number = this.#free.pop() ?? this.#all.length;
    const exit = only.account;
    const group: Group = {
      exit,
      among: this,
      next: without(exit.groups as Group | null, (each) => each.among.#hasEnded),
      number,
      only,
      many: null,
      size: 1,
      resting: 0,
      held: 0,
      restIsDue: false,
      samplePlace: -1,
    };
    exit.groups = group;
    this.#all[number] = group;
    return group;
  }

  delete(group: Group): void {
    group.exit.groups = without(group.exit.groups as Group | null, (each) => each === group);
    this.#free.push(group.number);
  }

  /** The groups are not used any more. Each exit drops them when it gets another group. */
  end(): void {
    this.#hasEnded = true;
    this.#all.length = 0;
  }
}

function without(list: Group | null, isGone: (group: Group) => boolean): Group | null {
  if (list === null) return null;
  list.next = without(list.next, isGone);
  return isGone(list) ? list.next : list;
}

export function isSeated(group: Group, proxy: Proxy): boolean {
  return group.only === proxy || group.many?.seats.has(proxy) === true;
}

/** For a proxy that is not the group's first. */
export function addSeat(state: PoolState, group: Group, proxy: Proxy): void {
  group.size++;
  group.many ??= newMany();
  for (const each of group.only === null ? [proxy] : [group.only, proxy]) {
    const seat: Seat = { proxy: each, rank: noRank, until: 0, freePlace: -1, restPlace: -1 };
    group.many.seats.set(each, seat);
    rankSeat(state, group.many, seat);
  }
  group.only = null;
}

/** A group that has had many keeps its heaps. */
export function removeSeat(group: Group, proxy: Proxy): void {
  group.size--;
  const seat = group.many?.seats.get(proxy);
  if (group.many === null || seat === undefined) return;
  group.many.free.delete(seat);
  group.many.resting.delete(seat);
  group.many.seats.delete(proxy);
}

export function rankSeat(state: PoolState, many: Many, seat: Seat): void {
  if (isResting(seat.proxy)) {
    many.free.delete(seat);
    seat.until = seat.proxy.until;
    many.resting.set(seat);
  } else {
    many.resting.delete(seat);
    seat.rank = rankInExit(state, seat.proxy);
    many.free.set(seat);
  }
}

/** `time-based`: moves proxies whose interval is over behind all others. */
export function endTurns(state: PoolState, many: Many): void {
  if (state.rules.policy.strategy.kind !== "time-based") return;
  for (let seat = many.free.top; seat?.rank[0] === 0 && !hasTurn(state, seat.proxy); seat = many.free.top) {
    rankSeat(state, many, seat);
  }
}

function newMany(): Many {
  return {
    seats: new Map(),
    free: new Heap("freePlace", (a, b) => rankBefore(a.rank, b.rank)),
    resting: new Heap("restPlace", (a, b) => a.until < b.until),
  };
}

export function isResting(proxy: Proxy): boolean {
  return proxy.state === "cooling" || proxy.state === "exhausted";
}

export function topOf(group: Group): Proxy | null {
  if (group.only !== null) return isResting(group.only) ? null : group.only;
  return group.many?.free.top?.proxy ?? null;
}

/** The free proxies, the best first. */
export function* freeOf(group: Group): Generator<Proxy> {
  if (group.only === null) for (const seat of group.many?.free.inOrder() ?? []) yield seat.proxy;
  else if (!isResting(group.only)) yield group.only;
}

export function restingCount(group: Group): number {
  if (group.only !== null) return isResting(group.only) ? 1 : 0;
  return group.many?.resting.size ?? 0;
}

export function freeCount(group: Group): number {
  if (group.only !== null) return isResting(group.only) ? 0 : 1;
  return group.many?.free.size ?? 0;
}

/** The proxy with this lot among the free ones that are not barred. The order has no meaning. */
export function nthFree(group: Group, nth: number, barred: ReadonlySet<Proxy>): Proxy {
  if (group.only !== null) return group.only;
  const { seats, free } = group.many!; // With no single proxy it has many.
  const places = [...barred].map((proxy) => seats.get(proxy)!.freePlace).sort((a, b) => a - b); // Barred ones are seated.
  let at = nth;
  for (const place of places) if (place <= at) at++;
  return free.items[at]!.proxy; // There are at least as many as there are lots.
}

/** All proxies: the free ones, then those at rest by the end of their rest. */
export function* byRestOf(group: Group): Generator<Proxy> {
  if (group.only !== null) return yield group.only;
  yield* freeOf(group);
  for (const seat of group.many?.resting.inOrder() ?? []) yield seat.proxy;
}
