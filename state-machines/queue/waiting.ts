// Waiting lease requests: first come, first served. No request is granted a proxy for which an earlier one is eligible
// at that moment. A request that is repeated under the same requestId joins the waiting one, and both get the same
// answer. Waiting requests live in the leader's memory. When the leader stops they are lost, and nothing was granted
// for them.

import { invalid, type Refusal, refuse } from "../../protocol/refusal.ts";
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
import type { WaitingRequest } from "./wait-group.ts";
import { WaitGroups } from "./wait-groups.ts";

const otherRequest = "a waiting request has this requestId and other fields. Use a new one";

export type Tell<To> = (to: To, answer: Answer) => void;

export interface Waiting<To> extends WaitingRequest {
  /** All that are told what becomes of it: together no more than may wait are copies of another. */
  readonly copies: To[];
  /** Copies that were cancelled: which of them is not known. */
  cancelled: number;
}

export class WaitingRequests<To> {
  /** What waiting requests, and others, need tokens for. */
  readonly refreshes: Refreshes;
  readonly #state: PoolState;
  readonly #candidates: Candidates;
  readonly #counts: Counts;
  readonly #groups: WaitGroups;
  readonly #all = new Set<Waiting<To>>();
  readonly #byRequestId = new Map<string, Waiting<To>>();
  readonly #deadlines = new Heap<"deadlinePlace", Waiting<To>>("deadlinePlace", (a, b) =>
    a.deadline !== b.deadline ? a.deadline < b.deadline : a.order < b.order,
  );
  /** Those that need a token, and whose it was when they were put here. */
  readonly #forTokens = new Set<Waiting<To>>();
  #scope: string | undefined;
  /** There may be something to serve or to begin already: the last turn was full, or one more waits for a token since. */
  #isDue = false;
  /** What their requests were checked by. */
  #checkedBy: { policyVersion: number; draining: boolean };
  #order = 0;
  #joined = 0;

  constructor(state: PoolState, candidates: Candidates, counts: Counts) {
    this.#state = state;
    this.#candidates = candidates;
    this.#counts = counts;
    this.refreshes = new Refreshes(state, candidates);
    this.#groups = new WaitGroups(state, (waiting, isOpen) => {
      // For the pool's token it asks, whichever proxy it will have.
      const { request, indexes } = waiting;
      this.#setAsks(waiting, request.token === true && (indexes.wanting === undefined || isOpen));
    });
    this.#checkedBy = { policyVersion: state.policyVersion, draining: state.draining };
  }

  get size(): number {
    return this.#all.size;
  }

  /** Is there something to do for them in a turn that follows at once? */
  get isDue(): boolean {
    return this.#isDue;
  }

  /**
   * Grants or refuses the request, or lets it wait. @param now.isSettled nothing is left that time has made due. Until then
   * nothing is refused that may be granted in the next turn.
   */
  ask(turn: Turn, command: LeaseCommand, to: To, now: { isSettled: boolean }): Answer | "waits" | "later" {
    const { state } = turn;
    const { request } = command;
    const { max } = state.rules.policy.waiting;
    const known = request.requestId === undefined ? undefined : this.#byRequestId.get(request.requestId);
    if (
      known !== undefined &&
      checkRequest(state, request) === undefined &&
      leaseOfRequest(state, request) === undefined
    ) {
      if (!sameRequest(recordOf(known.request), recordOf(request)))
        return this.#refused(invalid("requestId", otherRequest), request);
      if (this.#joined >= max) return this.#refused(tooMany(max), request);
      this.#joined++;
      known.copies.push(to);
      return "waits";
    }
    const granted = grant(turn, command);
    if (granted === "later" || "lease" in granted) return granted;
    const { refusal } = granted;
    if (!isPassing(refusal)) return this.#refused(refusal, request);
    if (!now.isSettled) return "later";
    this.#counts.heldBackBy(refusal.limitedBy);
    const isHopeless = refusal.code === "token-unavailable" && isUnavailable(state, state.tokens.get(poolKey));
    if (request.waitMs === 0 || isHopeless) return this.#refused(refusal, request);
    if (this.#all.size >= max) return this.#refused(tooMany(max), request);
    return this.add(command, to) ? "waits" : this.#refused(refusal, request);
  }

  /** Cancels one copy. Returns whether there was one. */
  cancel(requestId: string, tell: Tell<To>): boolean {
    const waiting = this.#byRequestId.get(requestId);
    if (waiting === undefined) return false;
    this.#counts.cancelled++;
    // It is not known which copy was cancelled, so all are answered as long as one is left.
    if (++waiting.cancelled === waiting.copies.length) this.#settle(waiting, { cancelled: true }, tell);
    return true;
  }

  /** Serves those that can be served, in order, until the turn is full. */
  serve(turn: Turn, hasRoom: () => boolean, tell: Tell<To>): void {
    this.#serve(turn, hasRoom, tell);
    this.#isDue = !hasRoom();
  }

  /** The request that has waited long enough, if there is one. */
  overdue(at: number): Waiting<To> | undefined {
    const first = this.#deadlines.top;
    return first !== undefined && first.deadline <= at ? first : undefined;
  }

  /** It has its answer, or something has been decided that concerns others first. */
  serveOverdue(turn: Turn, waiting: Waiting<To>, tell: Tell<To>): void {
    const granted = grant(turn, waiting);
    if (granted !== "later") this.#settle(waiting, granted, tell);
  }

  /** The pool is closed: nothing is granted any more. */
  close(tell: Tell<To>, refusal: Refusal): void {
    for (const { copies } of this.#all) for (const to of copies) tell(to, { refusal });
    for (const waiting of [...this.#all]) this.#remove(waiting);
  }

  /** When a waiting request may be served, or has waited long enough, by the passing of time alone. */
  wakeAt(): number {
    if (this.#isDue) return this.#state.at;
    this.#candidates.settle();
    return Math.min(this.#deadlines.top?.deadline ?? Infinity, this.#groups.wakeAt(), this.refreshes.wakeAt());
  }

  #serve(turn: Turn, hasRoom: () => boolean, tell: Tell<To>): void {
    this.#check(tell);
    if (this.#forTokens.size > 0) this.#settleTokens(turn, tell);
    this.refreshes.serve(turn, hasRoom);
    if (this.#all.size === 0) return;
    let refused: Waiting<To> | undefined;
    for (let waiting = this.next(); waiting !== undefined && hasRoom(); waiting = this.next()) {
      const before = turn.events.length;
      const granted = grant(turn, waiting);
      if (granted === "later" || ("refusal" in granted && isPassing(granted.refusal))) {
        // Its choice may have been a rest that was due, or its session's proxy is known again: then it waits on. If
        // another look finds the same, this would go on for ever.
        if (turn.events.length > before) refused = undefined;
        else if (refused === waiting) throw new Error("a waiting request can be served and is refused");
        else refused = waiting;
        this.#groups.lookAgain(waiting);
        continue;
      }
      // Between two looks nothing has happened, so what could be chosen is granted; a refusal here is a request that a new
      // policy has made impossible.
      this.#settle(waiting, granted, tell);
    }
    // Those with a token have been given away by now: requests that they could not serve need another.
    if (this.#forTokens.size > 0) this.refreshes.serve(turn, hasRoom);
  }

  /** The earliest request that can be served now. */
  next(): Waiting<To> | undefined {
    this.#candidates.settle();
    return this.#groups.first() as Waiting<To> | undefined; // It was added below.
  }

  /** Lets it wait. False where too many different requests wait. */
  add({ request, leaseId, deadline }: LeaseCommand, to: To): boolean {
    const indexes = this.#candidates.indexesFor(request);
    if (indexes === undefined) return false;
    const waiting: Waiting<To> = {
      request,
      leaseId,
      deadline,
      order: this.#order++,
      indexes,
      asks: false,
      deadlinePlace: -1,
      copies: [to],
      cancelled: 0,
    };
    this.#all.add(waiting);
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

  #settle(waiting: Waiting<To>, answer: Exclude<Granted, "later"> | { cancelled: true }, tell: Tell<To>): void {
    this.#remove(waiting);
    for (const to of waiting.copies) {
      if ("refusal" in answer) this.#counts.refused(answer.refusal, waiting.request);
      tell(to, answer);
    }
  }

  #remove(waiting: Waiting<To>): void {
    this.#all.delete(waiting);
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
    // Requests that wait when a pool is closed at once are told of that.
    if (!opened || (policyVersion === by.policyVersion && draining === by.draining)) return;
    this.#checkedBy = { policyVersion, draining };
    for (const waiting of [...this.#all]) {
      const refusal = checkRequest(this.#state, waiting.request);
      if (refusal !== undefined) this.#settle(waiting, { refusal }, tell);
    }
  }

  /** Likewise where the pool's token is unavailable. With a token for each proxy a request waits on, for another. */
  #settleTokens(turn: Turn, tell: Tell<To>): void {
    const state = this.#state;
    const scope = state.rules.policy.token?.scope;
    const isGone = scope === "pool" && isUnavailable(state, state.tokens.get(poolKey));
    if (scope === this.#scope && !isGone) return;
    const isOther = scope !== this.#scope;
    this.#scope = scope;
    for (const waiting of [...this.#forTokens]) {
      if (isGone) {
        // It is told what any other would be: the token may be fetched again before there is a proxy for that.
        const granted = grant(turn, waiting);
        if (granted !== "later") this.#settle(waiting, granted, tell);
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

/** Refused for now: a request that may wait goes on waiting. */
export function isPassing({ code }: Refusal): boolean {
  return code === "pool-exhausted" || code === "token-unavailable";
}

function tooMany(max: number): Refusal {
  return refuse("overloaded", `More than ${max} requests are waiting.`, { retryAfterMs: 1000 });
}
