// The proxies of one exit within a demand: who of them is free, and in what order.
import { Heap } from "./heap.ts";
import type { Exit, Proxy } from "./state.ts";
import type { Rank } from "./strategy.ts";

export interface Seat {
  proxy: Proxy;
  rank: Rank;
  until: number;
  freePlace: number;
  restPlace: number;
}

export interface Many {
  seats: Map<Proxy, Seat>;
  free: Heap<"freePlace", Seat>;
  resting: Heap<"restPlace", Seat>;
}

export interface Group {
  exit: Exit;
  /** Nearly every exit has one proxy; only the others pay for heaps. */
  only: Proxy | null;
  many: Many | null;
  size: number;
  resting: number;
  held: number;
  restIsDue: boolean;
  rank: Rank;
  /** When time alone changes what holds it back, or its rank. */
  changesAt: number;
  /** When one of them could be leased, if nothing more happened; of many: no earlier. */
  leasableAt: number;
  readyPlace: number;
  timedPlace: number;
  blockedPlace: number;
  urnPlace: number;
}

export const noRank: Rank = [0, 0, 0];
export const rankBefore = (a: Rank, b: Rank): boolean =>
  a[0] !== b[0] ? a[0] < b[0] : a[1] !== b[1] ? a[1] < b[1] : a[2] < b[2];

/** Of its first proxy. It stands nowhere yet. */
export function groupOf(only: Proxy): Group {
  return {
    exit: only.account,
    only,
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
    urnPlace: -1,
  };
}

export function newMany(): Many {
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

/** In order, the best first; as far as they are asked for. */
export function* freeOf(group: Group): Generator<Proxy> {
  if (group.only === null) for (const seat of group.many?.free.inOrder() ?? []) yield seat.proxy;
  else if (!isResting(group.only)) yield group.only;
}

export function freeCount(group: Group): number {
  if (group.only !== null) return isResting(group.only) ? 0 : 1;
  return group.many?.free.size ?? 0;
}

/** Whose lot it is, of those that are free and not barred, in no order that means anything. */
export function nthFree(group: Group, nth: number, barred: readonly Proxy[]): Proxy {
  if (group.only !== null) return group.only;
  const { seats, free } = group.many!; // With no single proxy it has many.
  const places = barred.map((proxy) => seats.get(proxy)!.freePlace).sort((a, b) => a - b); // Barred ones are seated.
  let at = nth;
  for (const place of places) if (place <= at) at++;
  return free.items[at]!.proxy; // There are at least as many as there are lots.
}

/** All of them: those that are free, then those at rest, in the order of its end; as far as they are asked for. */
export function* byRestOf(group: Group): Generator<Proxy> {
  if (group.only !== null) return yield group.only;
  yield* freeOf(group);
  for (const seat of group.many?.resting.inOrder() ?? []) yield seat.proxy;
}
