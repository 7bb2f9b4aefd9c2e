// Waiting lease requests that the same proxies could serve stand in one wait group, in the order in which they came, so
// that only the first of each has to be looked at. And of the groups only those that something has happened to: a group is
// open (any proxy of its index will do) or bound to its session's proxy, and is told of what may change that. So a turn
// costs what has moved in it, however many requests wait.
import type { CandidateIndex } from "../candidates/candidate-index.ts";
import type { Exit, PoolState, Queue } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { heldUntil, restEnd } from "../rules/exit.ts";
import { boundProxy, boundsOf, chooseBound, proxyOfSession, sessionEndsAt } from "../rules/session.ts";
import { isGood, tokenFor } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";
import { addTo, deleteFrom } from "../structures/multimap.ts";
import { HolderIndex } from "./holder-index.ts";
import { earlier, HolderQueues, keyOf, type WaitGroup, type WaitingRequest } from "./wait-group.ts";

/** Of one index: the groups that any of its proxies could serve. */
interface Open {
  plain: HolderQueues;
  /** Those whose requests exclude some. */
  choosy: Set<WaitGroup>;
  /** The index's `changes` when none of the choosy could be served. */
  lookedAt: number;
}

export class WaitGroups implements Queue {
  readonly #state: PoolState;
  readonly #groups = new Map<CandidateIndex, Map<string, WaitGroup>>();
  readonly #open = new Map<CandidateIndex, Open>();
  /** Bound groups whose proxy can be leased. */
  readonly #able = new HolderQueues();
  readonly #timed = new Heap<"timedPlace", WaitGroup>("timedPlace", (a, b) => a.changesAt < b.changesAt);
  readonly #ofExit = new Map<Exit, Set<WaitGroup>>();
  readonly #ofSession = new Map<string, Set<WaitGroup>>();
  readonly #holders: HolderIndex;
  /** Those that wait for a token, bound to a proxy. */
  readonly #tokenless = new Set<WaitGroup>();
  readonly #stale = new Set<WaitGroup>();
  readonly #onOpen: (request: WaitingRequest, isOpen: boolean) => void;

  /** @param onOpen told of each request whether any proxy of its index will do, and whenever that changes. */
  constructor(state: PoolState, onOpen: (request: WaitingRequest, isOpen: boolean) => void) {
    this.#state = state;
    this.#onOpen = onOpen;
    this.#holders = new HolderIndex(state);
    state.queue = this;
  }

  add(request: WaitingRequest): void {
    const group = this.#groupOf(request) ?? this.#newGroup(request);
    group.requests.add(request);
    this.#onOpen(request, group.isOpen);
  }

  remove(request: WaitingRequest): void {
    const group = this.#groupOf(request);
    if (group?.requests.delete(request) !== true || group.order !== request.order) return;
    const [first] = group.requests;
    this.#cancel(group);
    if (first === undefined) this.#drop(group);
    else {
      group.order = first.order;
      this.#stale.add(group);
    }
  }

  /** The earliest request that can be served now. The indexes must have been told what has moved. */
  first(): WaitingRequest | undefined {
    this.#settle();
    let first = this.#able.first;
    for (const [index, open] of this.#open) {
      index.advance();
      if (index.ready.size === 0) continue;
      first = earlier(first, open.plain.first);
      first = earlier(first, this.#firstChoosy(index, open));
    }
    const [request] = first?.requests ?? [];
    return request;
  }

  /** It could not be served after all: look again. */
  lookAgain(request: WaitingRequest): void {
    const group = this.#groupOf(request);
    if (group !== undefined) this.#stale.add(group);
  }

  /** When time alone may let one of them be served. */
  wakeAt(): number {
    this.#settle();
    let at = this.#timed.top?.changesAt ?? Infinity;
    for (const index of this.#open.keys()) at = Math.min(at, index.timed.least);
    return at;
  }

  exitMoved(exit: Exit): void {
    for (const group of this.#ofExit.get(exit) ?? []) this.#stale.add(group);
  }

  holderMoved(holder: string): void {
    this.#holders.holderMoved(holder);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  waitsFor(exit: Exit): boolean {
    return this.#ofExit.has(exit);
  }

  sessionMoved(session: string): void {
    for (const group of this.#ofSession.get(session) ?? []) this.#stale.add(group);
  }

  tokenMoved(key: string): void {
    if (key !== poolKey) return; // What a proxy's token changes, its exit is told of.
    this.#holders.poolTokenMoved();
    for (const group of this.#tokenless) this.#stale.add(group);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  everythingMoved(): void {
    this.#holders.poolTokenMoved();
    for (const groups of this.#groups.values()) for (const group of groups.values()) this.#stale.add(group);
  }

  #settle(): void {
    const { at } = this.#state;
    for (let group = this.#timed.top; group !== undefined && group.changesAt <= at; group = this.#timed.top) {
      this.#timed.delete(group);
      this.#stale.add(group);
    }
    for (const group of this.#stale) {
      this.#cancel(group);
      this.#assess(group);
    }
    this.#stale.clear();
  }

  /** Works out where the group stands. */
  #assess(group: WaitGroup): void {
    const state = this.#state;
    const session = group.session === undefined ? undefined : state.sessions.get(group.session);
    group.exit = (session && state.proxies.get(session.proxyId)?.account) ?? null;
    if (group.exit !== null) addTo(this.#ofExit, group.exit, group); // Also where it does not match: it may come to.
    const proxy = proxyOfSession(state, group.session, group.bounds);
    if (proxy === undefined) {
      this.#setOpen(group, true);
      return this.#openUp(group);
    }
    group.changesAt = sessionEndsAt(state, group.session);
    const isOpen = boundProxy(state, group.session, group.bounds) === undefined;
    this.#setOpen(group, isOpen);
    if (isOpen) {
      group.changesAt = Math.min(group.changesAt, restEnd(state, proxy) - state.rules.policy.session.patienceMs);
      this.#openUp(group);
    } else if (group.token && !isGood(state, tokenFor(state, proxy))) {
      // Its exit tells it of that token, and if it is the pool's, so does that.
      this.#tokenless.add(group);
      if (state.rules.policy.token?.scope === "proxy") {
        group.asksFor = proxy.id;
        state.askFor(proxy.id, 1);
      }
    } else if (chooseBound(state, proxy, group.bounds.minUses) !== undefined) this.#holders.enter(group, this.#able);
    else group.changesAt = Math.min(group.changesAt, heldUntil(state, proxy.account, group.bounds.minUses));
    group.changesAt = Math.max(group.changesAt, state.at + 1);
    this.#timed.set(group);
  }

  #setOpen(group: WaitGroup, isOpen: boolean): void {
    if (group.isOpen === isOpen) return;
    group.isOpen = isOpen;
    for (const request of group.requests) this.#onOpen(request, isOpen);
  }

  #openUp(group: WaitGroup): void {
    let open = this.#open.get(group.index);
    if (open === undefined) {
      open = { plain: new HolderQueues(), choosy: new Set(), lookedAt: -1 };
      this.#open.set(group.index, open);
    }
    if (group.bounds.excluded.size === 0) this.#holders.enter(group, open.plain);
    else {
      open.choosy.add(group);
      open.lookedAt = -1;
    }
  }

  #firstChoosy(index: CandidateIndex, open: Open): WaitGroup | undefined {
    if (open.choosy.size === 0 || open.lookedAt === index.changes) return undefined;
    let first: WaitGroup | undefined;
    for (const group of open.choosy) {
      if (this.#holders.isHeld(group) || earlier(first, group) !== group) continue;
      if (index.choose(group.bounds.excluded) !== undefined) first = group;
    }
    if (first === undefined) open.lookedAt = index.changes;
    return first;
  }

  #cancel(group: WaitGroup): void {
    this.#holders.leave(group);
    const open = this.#open.get(group.index);
    open?.choosy.delete(group);
    if (open?.plain.all.size === 0 && open.choosy.size === 0) this.#open.delete(group.index);
    this.#timed.delete(group);
    this.#tokenless.delete(group);
    if (group.asksFor !== null) this.#state.askFor(group.asksFor, -1);
    group.asksFor = null;
    if (group.exit !== null) deleteFrom(this.#ofExit, group.exit, group);
    group.exit = null;
  }

  #groupOf(request: WaitingRequest): WaitGroup | undefined {
    return this.#groups.get(request.indexes.able)?.get(keyOf(request.request));
  }

  #newGroup(waiting: WaitingRequest): WaitGroup {
    const { request } = waiting;
    const { able: index, plain } = waiting.indexes;
    const group: WaitGroup = {
      key: keyOf(request),
      index,
      bounds: boundsOf(plain, request, new Set(request.exclude)),
      session: request.session,
      holder: request.holder,
      token: request.token === true,
      requests: new Set(),
      order: waiting.order,
      isOpen: request.session === undefined,
      exit: null,
      asksFor: null,
      changesAt: Infinity,
      queue: null,
      place: -1,
      timedPlace: -1,
    };
    let groups = this.#groups.get(index);
    if (groups === undefined) {
      groups = new Map();
      this.#groups.set(index, groups);
    }
    groups.set(group.key, group);
    if (group.session !== undefined) addTo(this.#ofSession, group.session, group);
    this.#stale.add(group);
    return group;
  }

  #drop(group: WaitGroup): void {
    const groups = this.#groups.get(group.index);
    groups?.delete(group.key);
    if (groups?.size === 0) this.#groups.delete(group.index);
    if (group.session !== undefined) deleteFrom(this.#ofSession, group.session, group);
    this.#stale.delete(group);
  }
}
