// Waiting lease requests that the same proxies could serve form a wait group. Only groups that an event concerns are
// looked at, and only the first request of each. So the cost of a turn depends on its events, however many requests
// wait. A group is open (any proxy of its index may serve it) or bound to its session's proxy.
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

/** The open groups of one index. */
interface Open {
  plain: HolderQueues;
  /** Groups whose requests exclude proxies. */
  excluding: Set<WaitGroup>;
  /** The index's `changes` at the last look that could serve none of the excluding groups. */
  lookedAt: number;
}

export class WaitGroups implements Queue {
  readonly #state: PoolState;
  readonly #groups = new Map<string, WaitGroup>();
  readonly #open = new Map<CandidateIndex, Open>();
  /** Bound groups whose proxy can be leased. */
  readonly #able = new HolderQueues();
  readonly #timed = new Heap<"timedPlace", WaitGroup>("timedPlace", (a, b) => a.changesAt < b.changesAt);
  readonly #ofExit = new Map<Exit, Set<WaitGroup>>();
  readonly #ofSession = new Map<string, Set<WaitGroup>>();
  readonly #holders: HolderIndex;
  /** Bound groups that wait for a token. */
  readonly #tokenless = new Set<WaitGroup>();
  readonly #stale = new Set<WaitGroup>();
  readonly #onOpen: (request: WaitingRequest, isOpen: boolean) => void;

  /** @param onOpen told for each request whether its group is open, and of each change. */
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
    this.#removeEverywhere(group);
    if (first === undefined) this.#drop(group);
    else {
      group.order = first.order;
      this.#stale.add(group);
    }
  }

  /** The earliest request that can be served now. The caller settles the candidate indexes before. */
  first(): WaitingRequest | undefined {
    this.#settle();
    let first = this.#able.first;
    for (const [index, open] of this.#open) {
      index.advance();
      if (index.ready.size === 0) continue;
      first = earlier(first, open.plain.first);
      first = earlier(first, this.#firstExcluding(index, open));
    }
    const [request] = first?.requests ?? [];
    return request;
  }

  /** It could not be served after all: its group is assessed again. */
  lookAgain(request: WaitingRequest): void {
    const group = this.#groupOf(request);
    if (group !== undefined) this.#stale.add(group);
  }

  /** When a request may become servable by time alone. */
  wakeAt(): number {
    this.#settle();
    let at = this.#timed.top?.changesAt ?? Infinity;
    for (const index of this.#open.keys()) at = Math.min(at, index.timed.least);
    return at;
  }

  exitChanged(exit: Exit): void {
    for (const group of this.#ofExit.get(exit) ?? []) this.#stale.add(group);
  }

  holderChanged(holder: string): void {
    this.#holders.holderChanged(holder);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  waitsFor(exit: Exit): boolean {
    return this.#ofExit.has(exit);
  }

  sessionChanged(session: string): void {
    for (const group of this.#ofSession.get(session) ?? []) this.#stale.add(group);
  }

  tokenChanged(key: string): void {
    if (key !== poolKey) return; // A change of a proxy's token is reported to its exit.
    this.#holders.poolTokenChanged();
    for (const group of this.#tokenless) this.#stale.add(group);
    for (const open of this.#open.values()) open.lookedAt = -1;
  }

  everythingChanged(): void {
    this.#holders.poolTokenChanged();
    for (const group of this.#groups.values()) this.#stale.add(group);
  }

  #settle(): void {
    const { at } = this.#state;
    for (let group = this.#timed.top; group !== undefined && group.changesAt <= at; group = this.#timed.top) {
      this.#timed.delete(group);
      this.#stale.add(group);
    }
    for (const group of this.#stale) {
      this.#removeEverywhere(group);
      this.#assess(group);
    }
    this.#stale.clear();
  }

  /** Finds the place of the group. */
  #assess(group: WaitGroup): void {
    const state = this.#state;
    const session = group.session === undefined ? undefined : state.sessions.get(group.session);
    group.exit = (session && state.proxies.get(session.proxyId)?.account) ?? null;
    if (group.exit !== null) addTo(this.#ofExit, group.exit, group); // Even if it does not match now: it may match later.
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
      // The group is told of that token by its exit or, if it is the pool's, by the pool.
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
      open = { plain: new HolderQueues(), excluding: new Set(), lookedAt: -1 };
      this.#open.set(group.index, open);
    }
    if (group.bounds.excluded.size === 0) this.#holders.enter(group, open.plain);
    else {
      open.excluding.add(group);
      open.lookedAt = -1;
    }
  }

  #firstExcluding(index: CandidateIndex, open: Open): WaitGroup | undefined {
    if (open.excluding.size === 0 || open.lookedAt === index.changes) return undefined;
    let first: WaitGroup | undefined;
    for (const group of open.excluding) {
      if (this.#holders.isHeld(group) || earlier(first, group) !== group) continue;
      if (index.choose(group.bounds.excluded) !== undefined) first = group;
    }
    if (first === undefined) open.lookedAt = index.changes;
    return first;
  }

  #removeEverywhere(group: WaitGroup): void {
    this.#holders.leave(group);
    const open = this.#open.get(group.index);
    open?.excluding.delete(group);
    if (open?.plain.all.size === 0 && open.excluding.size === 0) this.#open.delete(group.index);
    this.#timed.delete(group);
    this.#tokenless.delete(group);
    if (group.asksFor !== null) this.#state.askFor(group.asksFor, -1);
    group.asksFor = null;
    if (group.exit !== null) deleteFrom(this.#ofExit, group.exit, group);
    group.exit = null;
  }

  #groupOf(request: WaitingRequest): WaitGroup | undefined {
    return this.#groups.get(keyOf(request));
  }

  #newGroup(waiting: WaitingRequest): WaitGroup {
    const { request } = waiting;
    const { able: index, plain } = waiting.indexes;
    const group: WaitGroup = {
      key: keyOf(waiting),
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
    this.#groups.set(group.key, group);
    if (group.session !== undefined) addTo(this.#ofSession, group.session, group);
    this.#stale.add(group);
    return group;
  }

  #drop(group: WaitGroup): void {
    this.#groups.delete(group.key);
    if (group.session !== undefined) deleteFrom(this.#ofSession, group.session, group);
    this.#stale.delete(group);
  }
}
