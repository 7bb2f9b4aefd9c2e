// Waiting wishes that the same proxies could serve stand in one lane, in the order in which they came, so that only the
// first of each has to be looked at. And of the lanes only those that something has happened to: a lane is open (any
// proxy of its demand will do), bound to its session's proxy, or held back by its holder's cap, and each kind is told of
// what may change that. So a turn costs what has moved in it, however many wishes wait.
import type { LeaseRequest } from "../events/lease.ts";
import type { Demand } from "./demand.ts";
import { heldUntil, restEnd } from "./exit.ts";
import { Heap } from "./heap.ts";
import { isFull } from "./holder.ts";
import { type Bounds, boundProxy, boundsOf, chooseBound, proxyOfSession, sessionEndsAt } from "./session.ts";
import type { Exit, PoolState, Queue } from "./state.ts";

export interface Waiter {
  readonly wish: LeaseRequest;
  readonly leaseId: string;
  /** In the pool's time. */
  readonly deadline: number;
  readonly order: number;
  readonly demand: Demand;
  deadlinePlace: number;
}

interface Lane {
  readonly key: string;
  readonly demand: Demand;
  readonly bounds: Bounds;
  readonly session: string | undefined;
  readonly holder: string | undefined;
  readonly waiters: Set<Waiter>;
  /** Of its first wish. */
  order: number;
  /** Of its session's proxy: what happens there concerns the lane. */
  exit: Exit | null;
  /** When time alone may change where it stands. */
  changesAt: number;
  openPlace: number;
  ablePlace: number;
  timedPlace: number;
}

/** Of one demand: the lanes that any of its proxies could serve. */
interface Open {
  plain: Heap<"openPlace", Lane>;
  /** Those whose wishes exclude some. */
  choosy: Set<Lane>;
  /** The demand's `changes` when none of the choosy could be served. */
  lookedAt: number;
}

export class Lanes implements Queue {
  readonly #state: PoolState;
  readonly #lanes = new Map<Demand, Map<string, Lane>>();
  readonly #open = new Map<Demand, Open>();
  readonly #able = new Heap<"ablePlace", Lane>("ablePlace", (a, b) => a.order < b.order);
  readonly #timed = new Heap<"timedPlace", Lane>("timedPlace", (a, b) => a.changesAt < b.changesAt);
  readonly #ofExit = new Map<Exit, Set<Lane>>();
  readonly #ofHolder = new Map<string, Set<Lane>>();
  readonly #ofSession = new Map<string, Set<Lane>>();
  readonly #stale = new Set<Lane>();

  constructor(state: PoolState) {
    this.#state = state;
    state.queue = this;
  }

  add(waiter: Waiter): void {
    const lane = this.#laneOf(waiter) ?? this.#newLane(waiter);
    lane.waiters.add(waiter);
  }

  remove(waiter: Waiter): void {
    const lane = this.#laneOf(waiter);
    if (lane?.waiters.delete(waiter) !== true || lane.order !== waiter.order) return;
    const [first] = lane.waiters;
    this.#withdraw(lane);
    if (first === undefined) this.#drop(lane);
    else {
      lane.order = first.order;
      this.#stale.add(lane);
    }
  }

  /** The earliest wish that can be served now. The demands must have been told what has moved. */
  first(): Waiter | undefined {
    this.#settle();
    let first = this.#able.top;
    for (const [demand, open] of this.#open) {
      demand.advance();
      if (demand.ready.size === 0) continue;
      first = earlier(first, open.plain.top);
      first = earlier(first, this.#firstChoosy(demand, open));
    }
    const [waiter] = first?.waiters ?? [];
    return waiter;
  }

  /** It could not be served after all: look again. */
  lookAgain(waiter: Waiter): void {
    const lane = this.#laneOf(waiter);
    if (lane !== undefined) this.#stale.add(lane);
  }

  /** When time alone may let one of them be served. */
  wakeAt(): number {
    this.#settle();
    let at = this.#timed.top?.changesAt ?? Infinity;
    for (const demand of this.#open.keys()) at = Math.min(at, demand.timed.top?.changesAt ?? Infinity);
    return at;
  }

  exitMoved(exit: Exit): void {
    for (const lane of this.#ofExit.get(exit) ?? []) this.#stale.add(lane);
  }

  holderMoved(holder: string): void {
    for (const lane of this.#ofHolder.get(holder) ?? []) this.#stale.add(lane);
  }

  sessionMoved(session: string): void {
    for (const lane of this.#ofSession.get(session) ?? []) this.#stale.add(lane);
  }

  everythingMoved(): void {
    for (const lanes of this.#lanes.values()) for (const lane of lanes.values()) this.#stale.add(lane);
  }

  #settle(): void {
    const { at } = this.#state;
    for (let lane = this.#timed.top; lane !== undefined && lane.changesAt <= at; lane = this.#timed.top) {
      this.#timed.delete(lane);
      this.#stale.add(lane);
    }
    for (const lane of this.#stale) {
      this.#withdraw(lane);
      this.#assess(lane);
    }
    this.#stale.clear();
  }

  /** Works out where the lane stands. */
  #assess(lane: Lane): void {
    const state = this.#state;
    if (isFull(state, lane.holder)) return;
    const session = lane.session === undefined ? undefined : state.sessions.get(lane.session);
    lane.exit = (session && state.proxies.get(session.proxyId)?.account) ?? null;
    if (lane.exit !== null) addTo(this.#ofExit, lane.exit, lane); // Also where it does not match: it may come to.
    const proxy = proxyOfSession(state, lane.session, lane.bounds);
    if (proxy === undefined) return this.#openUp(lane);
    lane.changesAt = sessionEndsAt(state, lane.session);
    if (boundProxy(state, lane.session, lane.bounds) === undefined) {
      lane.changesAt = Math.min(lane.changesAt, restEnd(state, proxy) - state.rules.policy.session.patienceMs);
      this.#openUp(lane);
    } else if (chooseBound(state, proxy, lane.bounds.minUses) !== undefined) this.#able.set(lane);
    else lane.changesAt = Math.min(lane.changesAt, heldUntil(state, proxy.account, lane.bounds.minUses));
    lane.changesAt = Math.max(lane.changesAt, state.at + 1);
    this.#timed.set(lane);
  }

  #openUp(lane: Lane): void {
    let open = this.#open.get(lane.demand);
    if (open === undefined) {
      open = {
        plain: new Heap<"openPlace", Lane>("openPlace", (a, b) => a.order < b.order),
        choosy: new Set(),
        lookedAt: -1,
      };
      this.#open.set(lane.demand, open);
    }
    if (lane.bounds.excluded.size === 0) open.plain.set(lane);
    else {
      open.choosy.add(lane);
      open.lookedAt = -1;
    }
  }

  #firstChoosy(demand: Demand, open: Open): Lane | undefined {
    if (open.choosy.size === 0 || open.lookedAt === demand.changes) return undefined;
    let first: Lane | undefined;
    for (const lane of open.choosy) {
      if (earlier(first, lane) === lane && demand.choose(lane.bounds.excluded) !== undefined) first = lane;
    }
    if (first === undefined) open.lookedAt = demand.changes;
    return first;
  }

  #withdraw(lane: Lane): void {
    const open = this.#open.get(lane.demand);
    if (open !== undefined) {
      open.plain.delete(lane);
      open.choosy.delete(lane);
      if (open.plain.size === 0 && open.choosy.size === 0) this.#open.delete(lane.demand);
    }
    this.#able.delete(lane);
    this.#timed.delete(lane);
    if (lane.exit !== null) deleteFrom(this.#ofExit, lane.exit, lane);
    lane.exit = null;
  }

  #laneOf(waiter: Waiter): Lane | undefined {
    return this.#lanes.get(waiter.demand)?.get(keyOf(waiter.wish));
  }

  #newLane(waiter: Waiter): Lane {
    const { wish, demand } = waiter;
    const lane: Lane = {
      key: keyOf(wish),
      demand,
      bounds: boundsOf(demand, wish, new Set(wish.exclude)),
      session: wish.session,
      holder: wish.holder,
      waiters: new Set(),
      order: waiter.order,
      exit: null,
      changesAt: Infinity,
      openPlace: -1,
      ablePlace: -1,
      timedPlace: -1,
    };
    let lanes = this.#lanes.get(demand);
    if (lanes === undefined) {
      lanes = new Map();
      this.#lanes.set(demand, lanes);
    }
    lanes.set(lane.key, lane);
    if (lane.holder !== undefined) addTo(this.#ofHolder, lane.holder, lane);
    if (lane.session !== undefined) addTo(this.#ofSession, lane.session, lane);
    this.#stale.add(lane);
    return lane;
  }

  #drop(lane: Lane): void {
    const lanes = this.#lanes.get(lane.demand);
    lanes?.delete(lane.key);
    if (lanes?.size === 0) this.#lanes.delete(lane.demand);
    if (lane.holder !== undefined) deleteFrom(this.#ofHolder, lane.holder, lane);
    if (lane.session !== undefined) deleteFrom(this.#ofSession, lane.session, lane);
    this.#stale.delete(lane);
  }
}

/** What wishes of one demand must have in common for the same proxies to serve them. */
function keyOf({ session, holder, exclude }: LeaseRequest): string {
  if (session === undefined && holder === undefined && (exclude === undefined || exclude.length === 0)) return "";
  return JSON.stringify([session ?? 0, holder ?? 0, ...new Set(exclude?.toSorted())]);
}

function earlier(a: Lane | undefined, b: Lane | undefined): Lane | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.order < a.order ? b : a;
}

function addTo<K>(index: Map<K, Set<Lane>>, key: K, lane: Lane): void {
  const lanes = index.get(key);
  if (lanes === undefined) index.set(key, new Set([lane]));
  else lanes.add(lane);
}

function deleteFrom<K>(index: Map<K, Set<Lane>>, key: K, lane: Lane): void {
  const lanes = index.get(key);
  lanes?.delete(lane);
  if (lanes?.size === 0) index.delete(key);
}
