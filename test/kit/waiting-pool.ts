// A pool in virtual time in which lease requests may wait, as in the engine. After every turn no waiting request may be
// eligible, and the request that was served must have been the first eligible one. Both are checked by a simple scan of
// the state, which shares no code with the candidate indexes and the wait groups.
import { expect } from "vitest";
import { type LeaseRequest, leaseRequestSchema } from "../../protocol/lease.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { LeaseCommand } from "../../state-machines/command.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { PoolState, Proxy } from "../../state-machines/fold/state.ts";
import { Counts } from "../../state-machines/queue/counts.ts";
import { WaitingRequests } from "../../state-machines/queue/waiting.ts";
import { isGood, tokenFor } from "../../state-machines/rules/token.ts";
import { TestPool } from "./pool.ts";

export interface Waiter {
  request: LeaseRequest;
  leaseId: string;
}

export class WaitingPool extends TestPool {
  /** Requests that wait, in order. */
  readonly queue: Waiter[] = [];
  /** Requests that were served, in order. */
  readonly served: { waiter: Waiter; proxyId: string | undefined; refusal?: Refusal }[] = [];
  #names = 0;
  /** Opening the pool is a turn too, before any request can wait. */
  readonly waiting?: WaitingRequests<Waiter>;

  constructor(policy: Record<string, unknown> = {}) {
    super(policy);
    this.waiting = new WaitingRequests(this.state, this.candidates, new Counts());
  }

  /** Decided as in the engine: it is granted, refused, or it waits. */
  ask(body: Record<string, unknown>): Waiter | { proxyId: string } | Refusal {
    const request = leaseRequestSchema.parse({ waitMs: 60_000, ...body });
    const leaseId = `l_asked_${String(++this.#names).padStart(16, "0")}`;
    const command: LeaseCommand = { type: "lease", request, leaseId, deadline: this.at + request.waitMs };
    const waiter = { request, leaseId };
    return this.turn((turn) => {
      for (;;) {
        this.#serve(turn);
        const answer = this.waiting!.ask(turn, command, waiter, { isSettled: true }); // Made with the pool.
        if (answer === "later") continue;
        if (answer === "waits") {
          this.queue.push(waiter);
          return waiter;
        }
        if ("lease" in answer) return { proxyId: answer.lease.proxy.id };
        if ("refusal" in answer) return answer.refusal;
      }
    });
  }

  override turn<T>(decide: (turn: Turn) => T): T {
    if (this.waiting === undefined) return super.turn(decide);
    const result = super.turn((turn) => {
      this.#serve(turn);
      const decided = decide(turn);
      this.#serve(turn);
      return decided;
    });
    const eligible = this.#firstEligible();
    expect(eligible?.request, "a lease request waits that could be served").toBeUndefined();
    return result;
  }

  override wait(ms: number): void {
    const end = this.at + ms;
    for (let due = this.#wakeAt(); due < end; due = this.#wakeAt()) super.wait(Math.max(0, due - this.at));
    super.wait(end - this.at);
  }

  #wakeAt(): number {
    const due = this.waiting?.wakeAt() ?? Infinity;
    return due <= this.at ? Infinity : due;
  }

  #serve(turn: Turn): void {
    let first: Waiter | undefined;
    const look = (): boolean => {
      first = this.#firstEligible();
      return true;
    };
    this.waiting?.serve(turn, look, (waiter, answer) => {
      if ("lease" in answer) expect(waiter.request, "the first that can be served is served").toEqual(first?.request);
      this.queue.splice(this.queue.indexOf(waiter), 1);
      const refusal = "refusal" in answer ? { refusal: answer.refusal } : {};
      this.served.push({ waiter, proxyId: "lease" in answer ? answer.lease.proxy.id : undefined, ...refusal });
    });
  }

  #firstEligible(): Waiter | undefined {
    return this.queue.find(({ request }) => isEligible(this.state, request));
  }
}

/** Could this request be granted now? Looks at every proxy. */
export function isEligible(state: PoolState, request: LeaseRequest): boolean {
  const { leasesMax } = state.rules.policy.holder;
  const ofHolder = [...state.leases.values()].filter((lease) => lease.request?.holder === request.holder).length;
  if (request.holder !== undefined && leasesMax !== null && ofHolder >= leasesMax) return false;
  return candidates(state, request).some(
    (proxy) =>
      hasRoom(state, proxy, request.minUses) && (request.token !== true || isGood(state, tokenFor(state, proxy))),
  );
}

/** The proxies that can serve it: its session's proxy, or all that match. */
export function candidates(state: PoolState, request: LeaseRequest): Proxy[] {
  const { policy } = state.rules;
  const matching = [...state.proxies.values()].filter((proxy) => matches(proxy, request));
  const session = [...state.sessions.values()].find(({ name }) => name === request.session);
  const bound = matching.find((proxy) => proxy.id === session?.proxyId);
  const restMs = bound === undefined ? 0 : restsUntil(state, bound, request.minUses) - state.at;
  const keepsTo = bound !== undefined && restMs <= policy.session.patienceMs && everServes(bound, request.minUses);
  return keepsTo ? [bound] : matching;
}

function matches(proxy: Proxy, request: LeaseRequest): boolean {
  if (proxy.state === "retired" || request.exclude?.includes(proxy.id) === true) return false;
  if (request.schemes !== undefined && !request.schemes.includes(proxy.scheme)) return false;
  return Object.entries(request.labels ?? {}).every(([key, value]) => proxy.labels[key] === value);
}

/** A rest that is due counts as begun: it begins at the next look. */
function restsUntil(state: PoolState, proxy: Proxy, uses: number): number {
  const { account: exit } = proxy;
  const { usage } = exit.limits;
  const until = Math.max(proxy.until, exit.restUntil);
  const short = usage !== null && exit.usesSinceRest + uses > usage.limit && uses <= usage.limit;
  return short && until <= state.at && exit.leases.length === 0 ? exit.lastClosedAt + usage.restMs : until;
}

function everServes(proxy: Proxy, uses: number): boolean {
  const { rates, usage } = proxy.account.limits;
  return rates.every(({ limit }) => uses <= limit) && uses <= (usage?.limit ?? uses);
}

export function hasRoom(state: PoolState, proxy: Proxy, uses: number): boolean {
  const { account: exit } = proxy;
  const { rates, concurrency, usage } = exit.limits;
  if (proxy.state !== "available" && proxy.state !== "in-use") return false;
  if (exit.restUntil > state.at || exit.leases.length >= concurrency) return false;
  const bases = exit.slots.toArray();
  for (const { limit, windowMs } of rates) {
    const from = state.at - windowMs - state.rules.policy.marginMs;
    if (exit.openUses + bases.filter((base) => base >= from).length + uses > limit) return false;
  }
  if (usage === null || exit.usesSinceRest + uses <= usage.limit) return true;
  // It was idle for as long as its rest would last, so that counts as the rest.
  return uses <= usage.limit && exit.leases.length === 0 && exit.lastClosedAt + usage.restMs <= state.at;
}
