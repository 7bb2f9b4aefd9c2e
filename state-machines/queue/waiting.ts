// Waiting lease requests: first come, first served. No request is granted a proxy for which an earlier one is eligible
// at that moment. A request that is repeated under the same requestId joins the waiting one, and both get its answer.
// They live in the leader's memory. When it stops they are lost, and nothing was granted for them.

import { invalid, overloaded, type Refusal } from "../../protocol/refusal.ts";
import type { Candidates } from "../candidates/candidates.ts";
import type { Answer, LeaseCommand } from "../command.ts";
import { recordOf, sameRequest } from "../decide/grant.ts";
import { checkRequest, type Granted, grant, leaseOfRequest } from "../decide/lease.ts";
import { Refreshes } from "../decide/refreshes.ts";
import type { Turn } from "../decide/turn.ts";
import type { PoolState } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { isUnavailable } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";
import type { Counts } from "./counts.ts";
import type { Quotas } from "./quotas.ts";
import type { WaitingRequest } from "./wait-group.ts";
import { WaitGroups } from "./wait-groups.ts";

/**
 * Labels and excluded proxies of all waiting requests of a pool. It bounds their memory: one may exclude a thousand.
 */
const namedMax = 200_000;

const otherRequest = "a waiting request has this requestId and other fields. Use a new one";

export type Tell<To> = (to: To, answer: Answer) => void;

/** `isSettled`: time has made nothing due. Until then nothing is refused that may soon be granted. */
interface Now {
  isSettled: boolean;
}

export interface Waiting<To> extends WaitingRequest {
  /** Where the answers to this request and to its repetitions go. */
  readonly copies: To[];
  /** How many copies were cancelled. Which ones is not known. */
  cancelled: number;
}

export class WaitingRequests<To> {
  /** The refreshes that waiting requests and token waiters need. */
  readonly refreshes: Refreshes;
  /** The request that is being granted. It stays here if that throws. */
  granting: Waiting<To> | undefined;
  readonly #state: PoolState;
  readonly #candidates: Candidates;
  readonly #counts: Counts;
  readonly #quotas: Quotas | undefined;
  readonly #groups: WaitGroups;
  readonly #all = new Set<Waiting<To>>();
  readonly #byRequestId = new Map<string, Waiting<To>>();
  readonly #deadlines = new Heap<"deadlinePlace", Waiting<To>>("deadlinePlace", (a, b) =>
    a.deadline !== b.deadline ? a.deadline < b.deadline : a.order < b.order,
  );
  /** Requests that need a token, and the scope of tokens when they were added. */
  readonly #forTokens = new Set<Waiting<To>>();
  #scope: string | undefined;
  /** Another turn may serve requests or begin a refresh at once. */
  #isDue = false;
  /** The state by which the waiting requests were checked. */
  #checkedBy: { policyVersion: number; draining: boolean };
  #order = 0;
  #joined = 0;
  #named = 0;

  /** @param quotas how much users have used of theirs. */
  constructor(state: PoolState, candidates: Candidates, counts: Counts, quotas?: Quotas) {
    this.#state = state;
    this.#quotas = quotas;
    this.#candidates = candidates;
    this.#counts = counts;
    this.refreshes = new Refreshes(state, candidates);
    this.#groups = new WaitGroups(state, (waiting, isOpen) => {
      // A request for the pool's token asks, whichever proxy it gets.
      const { request, indexes } = waiting;
      this.#setAsks(waiting, request.token === true && (indexes.wanting === undefined || isOpen));
    });
    this.#checkedBy = { policyVersion: state.policyVersion, draining: state.draining };
  }

  get size(): number {
    return this.#all.size;
  }

  /** In the order in which they came. */
  all(): Iterable<Waiting<To>> {
    return this.#all;
  }

  /** Each copy of a request. */
  *copies(): Iterable<WaitingRequest> {
    for (const waiting of this.#all) for (const _ of waiting.copies) yield waiting;
  }

  /** Whether a turn should follow at once. */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** Grants, refuses, or lets it wait. */
  ask(turn: Turn, command: LeaseCommand, to: To, now: Now): Answer | "waits" | "later" {
    const { state } = turn;
    const { request } = command;
    const { max } = state.rules.policy.waiting;
    const known = request.requestId === undefined ? undefined : this.#byRequestId.get(request.requestId);
    if (
      known !== undefined &&
      checkRequest(state, request) === undefined &&
      leaseOfRequest(state, command) === undefined
    ) {
      if (known.user !== command.user || !sameRequest(recordOf(known.request), recordOf(request)))
        return this.#refused(invalid("requestId", otherRequest), request);
      if (this.#joined >= max) return this.#refused(tooMany(max), request);
      const refusal = this.#quotas?.waitRefused(command, turn.at);
      if (refusal !== undefined) return this.#refused(refusal, request);
      this.#joined++;
      known.copies.push(to);
      this.#quotas?.waits(known);
      return "waits";
    }
    const granted = grant(turn, command);
    if (granted === "later" || "lease" in granted) return granted;
    const { refusal } = granted;
    if (isEarly(granted, now) || (!now.isSettled && isPassing(refusal))) return "later";
    if (!isPassing(refusal)) return this.#refused(refusal, request);
    this.#counts.heldBackBy(refusal.limitedBy);
    const isHopeless = refusal.code === "token-unavailable" && isUnavailable(state, state.tokens.get(poolKey));
    if (request.waitMs === 0 || isHopeless) return this.#refused(refusal, request);
    if (this.#all.size >= max) return this.#refused(tooMany(max), request);
    if (this.#named + namedIn(request) > namedMax) return this.#refused(tooManyNamed(), request);
    const overQuota = this.#quotas?.waitRefused(command, turn.at);
    if (overQuota !== undefined) return this.#refused(overQuota, request);
    return this.add(command, to) ? "waits" : this.#refused(refusal, request);
  }

  /** Cancels one copy. Returns whether there was one. @param owner absent: it may be any user's. */
  cancel({ requestId, owner }: { requestId: string; owner?: string | undefined }, tell: Tell<To>): boolean {
    const waiting = this.#byRequestId.get(requestId);
    if (waiting === undefined || (owner !== undefined && waiting.user !== owner)) return false;
    this.#counts.cancelled++;
    // Which copy was cancelled is not known, so all get an answer as long as one is left.
    if (++waiting.cancelled === waiting.copies.length) this.#settle(waiting, { cancelled: true }, tell);
    return true;
  }

  /** Serves the requests that can be served, in order, until the turn is full. @param now as for `ask`. */
  serve(turn: Turn, hasRoom: () => boolean, tell: Tell<To>, now: Now = { isSettled: true }): void {
    this.#serve(turn, { ...now, hasRoom }, tell);
    this.#isDue = !hasRoom();
  }

  /** The first request that has waited long enough. */
  overdue(at: number): Waiting<To> | undefined {
    const first = this.#deadlines.top;
    return first !== undefined && first.deadline <= at ? first : undefined;
  }

  /** Answers it, unless an event is decided that concerns earlier requests. */
  serveOverdue(turn: Turn, waiting: Waiting<To>, tell: Tell<To>): void {
    const granted = this.#grant(turn, waiting);
    if (granted !== "later") this.#settle(waiting, granted, tell);
  }

  /** The pool is closed: nothing is granted any more. */
  close(tell: Tell<To>, refusal: Refusal): void {
    for (const { copies } of this.#all) for (const to of copies) tell(to, { refusal });
    for (const waiting of [...this.#all]) this.#remove(waiting);
  }

  /** When time alone may let a request be served, or has made one wait long enough. */
  wakeAt(): number {
    if (this.#isDue) return this.#state.at;
    this.#candidates.settle();
    return Math.min(this.#deadlines.top?.deadline ?? Infinity, this.#groups.wakeAt(), this.refreshes.wakeAt());
  }

  #serve(turn: Turn, now: Now & { hasRoom: () => boolean }, tell: Tell<To>): void {
    const { hasRoom } = now;
    this.#check(tell);
    if (this.#forTokens.size > 0) this.#settleTokens(turn, now, tell);
    this.refreshes.serve(turn, hasRoom);
    if (this.#all.size === 0) return;
    let refused: Waiting<To> | undefined;
    for (let waiting = this.next(); waiting !== undefined && hasRoom(); waiting = this.next()) {
      const before = turn.events.length;
      const granted = this.#grant(turn, waiting);
      if (isEarly(granted, now)) break; // The next turn decides it.
      if (granted === "later" || ("refusal" in granted && isPassing(granted.refusal))) {
        // Its choice may have been a due rest, or its session's proxy is known again. Then it waits on. Two equal looks
        // would repeat for ever.
        if (turn.events.length > before) refused = undefined;
        else if (refused === waiting) throw new Error("a waiting request can be served and is refused");
        else refused = waiting;
        this.#groups.lookAgain(waiting);
        continue;
      }
      this.#settle(waiting, granted, tell);
    }
    // The free tokens are given away by now. The other requests need new ones.
    if (this.#forTokens.size > 0) this.refreshes.serve(turn, hasRoom);
  }

  /** The earliest request that can be served now. */
  next(): Waiting<To> | undefined {
    this.#candidates.settle();
    return this.#groups.first() as Waiting<To> | undefined; // It was added below.
  }

  /** Lets it wait. False: too many different requests wait. */
  add({ request, leaseId, deadline, user, quota }: LeaseCommand, to: To): boolean {
    const indexes = this.#candidates.indexesFor(request);
    if (indexes === undefined) return false;
    const waiting: Waiting<To> = {
      request,
      leaseId,
      deadline,
      user,
      quota,
      order: this.#order++,
      indexes,
      asks: false,
      deadlinePlace: -1,
      copies: [to],
      cancelled: 0,
    };
    this.#all.add(waiting);
    this.#named += namedIn(request);
    this.#quotas?.waits(waiting);
    this.#deadlines.set(waiting);
    if (request.requestId !== undefined) this.#byRequestId.set(request.requestId, waiting);
    if (request.token === true) {
      this.#scope = this.#state.rules.policy.token?.scope;
      this.#forTokens.add(waiting);
      this.#isDue = true;
    }
    this.#enter(waiting);
    return true;
  }

  #grant(turn: Turn, waiting: Waiting<To>): Granted {
    this.granting = waiting;
    const granted = grant(turn, waiting);
    this.granting = undefined;
    return granted;
  }

  #settle(waiting: Waiting<To>, answer: Exclude<Granted, "later"> | { cancelled: true }, tell: Tell<To>): void {
    this.#remove(waiting);
    for (const to of waiting.copies) {
      if ("refusal" in answer) this.#counts.refused(answer.refusal, waiting.request);
      tell(to, answer);
    }
  }

  #remove(waiting: Waiting<To>): void {
    this.#all.delete(waiting);
    this.#named -= namedIn(waiting.request);
    this.#quotas?.leaves(waiting);
    this.#joined -= waiting.copies.length - 1;
    this.#leave(waiting);
    this.#forTokens.delete(waiting);
    if (waiting.request.requestId !== undefined) this.#byRequestId.delete(waiting.request.requestId);
    this.#deadlines.delete(waiting);
  }

  #enter(waiting: Waiting<To>): void {
    this.#candidates.pin(waiting.indexes, 1);
    this.#groups.add(waiting);
  }

  #leave(waiting: Waiting<To>): void {
    this.#groups.remove(waiting);
    this.#setAsks(waiting, false);
    this.#candidates.pin(waiting.indexes, -1);
  }

  #setAsks(waiting: WaitingRequest, asks: boolean): void {
    if (waiting.asks === asks) return;
    waiting.asks = asks;
    this.refreshes.waits(asks ? 1 : -1, waiting.indexes, waiting.request.exclude);
  }

  /** Refuses requests that can no longer be granted: a new policy rules them out, or the pool is closing. */
  #check(tell: Tell<To>): void {
    const { policyVersion, draining, opened } = this.#state;
    const by = this.#checkedBy;
    // If the pool was closed at once, the engine answers them.
    if (!opened || (policyVersion === by.policyVersion && draining === by.draining)) return;
    this.#checkedBy = { policyVersion, draining };
    for (const waiting of [...this.#all]) {
      const refusal = checkRequest(this.#state, waiting.request);
      if (refusal !== undefined) this.#settle(waiting, { refusal }, tell);
    }
  }

  /** The same if the pool's token is unavailable. With per-proxy tokens the request keeps waiting. */
  #settleTokens(turn: Turn, now: Now, tell: Tell<To>): void {
    const state = this.#state;
    const scope = state.rules.policy.token?.scope;
    const isGone = scope === "pool" && isUnavailable(state, state.tokens.get(poolKey));
    if (scope === this.#scope && !isGone) return;
    const isOther = scope !== this.#scope;
    this.#scope = scope;
    for (const waiting of [...this.#forTokens]) {
      if (isGone) {
        // It gets the answer of a new request: the token may be fetched before a proxy is free.
        const granted = this.#grant(turn, waiting);
        if (granted !== "later" && !isEarly(granted, now)) this.#settle(waiting, granted, tell);
      } else if (isOther) {
        this.#leave(waiting);
        waiting.indexes = this.#candidates.indexesFor(waiting.request) ?? waiting.indexes;
        this.#enter(waiting);
      }
    }
  }

  #refused(refusal: Refusal, request: LeaseCommand["request"]): { refusal: Refusal } {
    this.#counts.refused(refusal, request);
    return { refusal };
  }
}

/** A temporary refusal: a request that may wait keeps waiting. */
function isPassing({ code }: Refusal): boolean {
  return code === "pool-exhausted" || code === "token-unavailable";
}

/** Leases of the user that are due to end still count towards its quota. */
function isEarly(granted: Granted, { isSettled }: Now): boolean {
  return !isSettled && granted !== "later" && "refusal" in granted && granted.refusal.code === "overloaded";
}

function tooMany(max: number): Refusal {
  return overloaded(`More than ${max} requests are waiting.`);
}

function namedIn({ exclude = [], labels = {} }: LeaseCommand["request"]): number {
  return exclude.length + Object.keys(labels).length;
}

function tooManyNamed(): Refusal {
  return overloaded(`The waiting requests name ${namedMax} labels and excluded proxies, and no more are taken.`);
}
