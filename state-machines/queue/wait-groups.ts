// Waiting wishes that the same proxies could serve stand in one lane, in the order in which they came, so that only the
// first of each has to be looked at. And of the lanes only those that something has happened to: a lane is open (any
// proxy of its index will do) or bound to its session's proxy, and is told of what may change that. Lanes of one holder
// stand in line together, so that its cap holds them back, and lets them go, all at once; those that wait for the pool's
// token likewise. So a turn costs what has moved in it, however many wishes wait.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { CandidateIndex } from "../candidates/candidate-index.ts";
import type { CandidateIndexes } from "../candidates/candidates.ts";
import type { Exit, PoolState, Queue } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { heldUntil, restEnd } from "../rules/exit.ts";
import { isFull } from "../rules/holder.ts";
import { type Bounds, boundProxy, boundsOf, chooseBound, proxyOfSession, sessionEndsAt } from "../rules/session.ts";
import { isGood, tokenFor } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";

export interface Waiter {
  readonly wish: LeaseRequest;
  readonly leaseId: string;
  /** In the pool's time. */
  readonly deadline: number;
  readonly order: number;
  indexes: CandidateIndexes;
  /** It may be served by any proxy's token, so that one is fetched for it; not by that of its session's proxy alone. */
  asks: boolean;
  deadlinePlace: number;
}

interface Lane {
  readonly key: string;
  readonly index: CandidateIndex;
  readonly bounds: Bounds;
  readonly session: string | undefined;
  readonly holder: string | undefined;
  readonly token: boolean;
  readonly waiters: Set<Waiter>;
  /** Of its first wish. */
  order: number;
  /** Any proxy of its index will do. */
  isOpen: boolean;
  /** Of its session's proxy: what happens there concerns the lane. */
  exit: Exit | null;
  /** The session's proxy, where that has no good token. */
  asksFor: string | null;
  /** When time alone may change where it stands. */
  changesAt: number;
  line: Line | null;
  linePlace: number;
  timedPlace: number;
}

/** Lanes of one holder, or of none, that may be served if its cap allows, and the pool's token; the earliest first. */
interface Line {
  readonly key: string;
  readonly holder: string | undefined;
  readonly token: boolean;
  readonly lanes: Heap<"linePlace", Lane>;
  readonly among: Lines;
  order: number;
  place: number;
}

class Lines {
  /** Those whose holder is not at its cap. */
  readonly free = new Heap<"place", Line>("place", (a, b) => a.order < b.order);
  readonly all = new Map<string, Line>();

  get first(): Lane | undefined {
    return this.free.top?.lanes.top;
  }
}

/** Of one index: the lanes that any of its proxies could serve. */
interface Open {
  plain: Lines;
  /** Those whose wishes exclude some. */
  choosy: Set<Lane>;
  /** The index's `changes` when none of the choosy could be served. */
  lookedAt: number;
}

export class Lanes implements Queue {
  readonly #state: PoolState;
  readonly #lanes = new Map<CandidateIndex, Map<string, Lane>>();
  readonly #open = new Map<CandidateIndex, Open>();
  /** Bound lanes whose proxy can be leased. */
  readonly #able = new Lines();
  readonly #timed = new Heap<"timedPlace", Lane>("timedPlace", (a, b) => a.changesAt < b.changesAt);
  readonly #ofExit = new Map<Exit, Set<Lane>>();
  readonly #linesOf = new Map<string, Set<Line>>();
  readonly #ofSession = new Map<string, Set<Lane>>();
  /** Those that wait for a token; and lanes that do, bound to a proxy. */
  readonly #tokenLines = new Set<Line>();
  readonly #tokenless = new Set<Lane>();
  readonly #stale = new Set<Lane>();
  readonly #onOpen: (waiter: Waiter, isOpen: boolean) => void;

  /** @param onOpen told of each wish whether any proxy of its index will do, and whenever that changes. */
  constructor(state: PoolState, onOpen: (waiter: Waiter, isOpen: boolean) => void) {
    this.#state = state;
    this.#onOpen = onOpen;
    state.queue = this;
  }

  add(waiter: Waiter): void {
    const lane = this.#laneOf(waiter) ?? this.#newLane(waiter);
    lane.waiters.add(waiter);
    this.#onOpen(waiter, lane.isOpen);
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

  /** The earliest wish that can be served now. The indexes must have been told what has moved. */
  first(): Waiter | undefined {
    this.#settle();
    let first = this.#able.first;
    for (const [index, open] of this.#open) {
      index.advance();
      if (index.ready.size === 0) continue;
      first = earlier(first, open.plain.first);
      first = earlier(first, this.#firstChoosy(index, open));
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
    for (const index of this.#open.keys()) at = Math.min(at, index.timed.least);
    return at;
  }

  exitMoved(exit: Exit): void {
    for (const lane of this.#ofExit.get(exit) ?? []) this.#stale.add(lane);
  }

  holderMoved(holder: string): void {
    for (const line of this.#linesOf.get(holder) ?? []) this.#place(line);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  waitsFor(exit: Exit): boolean {
    return this.#ofExit.has(exit);
  }

  sessionMoved(session: string): void {
    for (const lane of this.#ofSession.get(session) ?? []) this.#stale.add(lane);
  }

  tokenMoved(key: string): void {
    if (key !== poolKey) return; // What a proxy's token changes, its exit is told of.
    for (const line of this.#tokenLines) this.#place(line);
    for (const lane of this.#tokenless) this.#stale.add(lane);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  everythingMoved(): void {
    for (const line of this.#tokenLines) this.#place(line);
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
    const session = lane.session === undefined ? undefined : state.sessions.get(lane.session);
    lane.exit = (session && state.proxies.get(session.proxyId)?.account) ?? null;
    if (lane.exit !== null) addTo(this.#ofExit, lane.exit, lane); // Also where it does not match: it may come to.
    const proxy = proxyOfSession(state, lane.session, lane.bounds);
    if (proxy === undefined) {
      this.#setOpen(lane, true);
      return this.#openUp(lane);
    }
    lane.changesAt = sessionEndsAt(state, lane.session);
    const isOpen = boundProxy(state, lane.session, lane.bounds) === undefined;
    this.#setOpen(lane, isOpen);
    if (isOpen) {
      lane.changesAt = Math.min(lane.changesAt, restEnd(state, proxy) - state.rules.policy.session.patienceMs);
      this.#openUp(lane);
    } else if (lane.token && !isGood(state, tokenFor(state, proxy))) {
      // Its exit tells it of that token, and if it is the pool's, so does that.
      this.#tokenless.add(lane);
      if (state.rules.policy.token?.scope === "proxy") {
        lane.asksFor = proxy.id;
        state.askFor(proxy.id, 1);
      }
    } else if (chooseBound(state, proxy, lane.bounds.minUses) !== undefined) this.#stand(lane, this.#able);
    else lane.changesAt = Math.min(lane.changesAt, heldUntil(state, proxy.account, lane.bounds.minUses));
    lane.changesAt = Math.max(lane.changesAt, state.at + 1);
    this.#timed.set(lane);
  }

  #setOpen(lane: Lane, isOpen: boolean): void {
    if (lane.isOpen === isOpen) return;
    lane.isOpen = isOpen;
    for (const waiter of lane.waiters) this.#onOpen(waiter, isOpen);
  }

  #openUp(lane: Lane): void {
    let open = this.#open.get(lane.index);
    if (open === undefined) {
      open = { plain: new Lines(), choosy: new Set(), lookedAt: -1 };
      this.#open.set(lane.index, open);
    }
    if (lane.bounds.excluded.size === 0) this.#stand(lane, open.plain);
    else {
      open.choosy.add(lane);
      open.lookedAt = -1;
    }
  }

  #firstChoosy(index: CandidateIndex, open: Open): Lane | undefined {
    if (open.choosy.size === 0 || open.lookedAt === index.changes) return undefined;
    let first: Lane | undefined;
    for (const lane of open.choosy) {
      if (this.#isHeld(lane) || earlier(first, lane) !== lane) continue;
      if (index.choose(lane.bounds.excluded) !== undefined) first = lane;
    }
    if (first === undefined) open.lookedAt = index.changes;
    return first;
  }

  /** Puts the lane into the line of its holder. */
  #stand(lane: Lane, among: Lines): void {
    const { holder, token } = lane;
    const key = `${token ? "t" : "-"}${holder ?? ""}`;
    let line = among.all.get(key);
    if (line === undefined) {
      const lanes = new Heap<"linePlace", Lane>("linePlace", (a, b) => a.order < b.order);
      line = { key, holder, token, lanes, among, order: 0, place: -1 };
      among.all.set(key, line);
      if (token) this.#tokenLines.add(line);
      if (lane.holder !== undefined) addTo(this.#linesOf, lane.holder, line);
    }
    line.lanes.set(lane);
    lane.line = line;
    this.#place(line);
  }

  /** Where the line stands among others: by its first lane, or nowhere while its holder is at its cap. */
  #place(line: Line): void {
    const { lanes, holder, among } = line;
    if (lanes.top === undefined) {
      among.free.delete(line);
      among.all.delete(line.key);
      this.#tokenLines.delete(line);
      if (holder !== undefined) deleteFrom(this.#linesOf, holder, line);
      return;
    }
    line.order = lanes.top.order;
    if (this.#isHeld(line)) among.free.delete(line);
    else among.free.set(line);
  }

  /** By its holder's cap, or because the pool's token is not there. */
  #isHeld({ holder, token }: Pick<Lane, "holder" | "token">): boolean {
    const state = this.#state;
    if (isFull(state, holder)) return true;
    return token && state.rules.policy.token?.scope === "pool" && !isGood(state, state.tokens.get(poolKey));
  }

  #withdraw(lane: Lane): void {
    if (lane.line !== null) {
      lane.line.lanes.delete(lane);
      this.#place(lane.line);
      lane.line = null;
    }
    const open = this.#open.get(lane.index);
    open?.choosy.delete(lane);
    if (open?.plain.all.size === 0 && open.choosy.size === 0) this.#open.delete(lane.index);
    this.#timed.delete(lane);
    this.#tokenless.delete(lane);
    if (lane.asksFor !== null) this.#state.askFor(lane.asksFor, -1);
    lane.asksFor = null;
    if (lane.exit !== null) deleteFrom(this.#ofExit, lane.exit, lane);
    lane.exit = null;
  }

  #laneOf(waiter: Waiter): Lane | undefined {
    return this.#lanes.get(waiter.indexes.able)?.get(keyOf(waiter.wish));
  }

  #newLane(waiter: Waiter): Lane {
    const { wish } = waiter;
    const { able: index, plain } = waiter.indexes;
    const lane: Lane = {
      key: keyOf(wish),
      index,
      bounds: boundsOf(plain, wish, new Set(wish.exclude)),
      session: wish.session,
      holder: wish.holder,
      token: wish.token === true,
      waiters: new Set(),
      order: waiter.order,
      isOpen: wish.session === undefined,
      exit: null,
      asksFor: null,
      changesAt: Infinity,
      line: null,
      linePlace: -1,
      timedPlace: -1,
    };
    let lanes = this.#lanes.get(index);
    if (lanes === undefined) {
      lanes = new Map();
      this.#lanes.set(index, lanes);
    }
    lanes.set(lane.key, lane);
    if (lane.session !== undefined) addTo(this.#ofSession, lane.session, lane);
    this.#stale.add(lane);
    return lane;
  }

  #drop(lane: Lane): void {
    const lanes = this.#lanes.get(lane.index);
    lanes?.delete(lane.key);
    if (lanes?.size === 0) this.#lanes.delete(lane.index);
    if (lane.session !== undefined) deleteFrom(this.#ofSession, lane.session, lane);
    this.#stale.delete(lane);
  }
}

/** What wishes of one index must have in common for the same proxies to serve them. */
function keyOf({ session, holder, exclude, token }: LeaseRequest): string {
  const plain = session === undefined && holder === undefined && (exclude === undefined || exclude.length === 0);
  if (plain) return token === true ? "t" : "";
  return JSON.stringify([session ?? 0, holder ?? 0, token === true ? 1 : 0, ...new Set(exclude?.toSorted())]);
}

function earlier(a: Lane | undefined, b: Lane | undefined): Lane | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.order < a.order ? b : a;
}

function addTo<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, new Set([value]));
  else values.add(value);
}

function deleteFrom<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const values = index.get(key);
  values?.delete(value);
  if (values?.size === 0) index.delete(key);
}
