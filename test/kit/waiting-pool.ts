// A pool in virtual time in which wishes may wait, as they do at the leader. After every turn no waiting wish may be
// eligible, and whoever is served must be the first of those that were; both are judged by a plain look at the state that
// shares nothing with the index of demands and lanes.
import { expect } from "vitest";
import { type LeaseRequest, leaseRequestSchema } from "../../protocol/lease.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { type Granted as Decided, grant } from "../../state-machines/decide/lease.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { PoolState, Proxy } from "../../state-machines/fold/state.ts";
import type { Waiter } from "../../state-machines/queue/wait-groups.ts";
import { isPassing, Waiting } from "../../state-machines/queue/waiting.ts";
import { isGood, tokenFor } from "../../state-machines/rules/token.ts";
import { TestPool } from "./pool.ts";

export class WaitingPool extends TestPool {
  /** Who waits, in order. */
  readonly queue: Waiter[] = [];
  /** Who was served, in order. */
  readonly served: { waiter: Waiter; proxyId: string | undefined; refusal?: Refusal }[] = [];
  #names = 0;
  /** Opening the pool is a turn already, before there is anything to wait in. */
  readonly waiting?: Waiting;

  constructor(policy: Record<string, unknown> = {}) {
    super(policy);
    this.waiting = new Waiting(this.state);
  }

  /** As the picker decides it: granted, refused, or it waits. */
  ask(wish: Record<string, unknown>): Waiter | { proxyId: string } | Refusal {
    const asked = leaseRequestSchema.parse({ waitMs: 60_000, ...wish });
    const leaseId = `l_asked_${String(++this.#names).padStart(16, "0")}`;
    return this.turn((turn) => {
      let granted: Decided = { again: true };
      while ("again" in granted) {
        this.#serve(turn);
        granted = grant(turn, this.candidates, asked, leaseId);
      }
      if ("lease" in granted) return { proxyId: granted.lease.proxy.id };
      if (!isPassing(granted.refusal)) return granted.refusal;
      const deadline = this.at + asked.waitMs;
      const indexes = this.candidates.indexesFor(asked)!; // It has just been asked.
      const waiter = this.waiting!.add(this.candidates, indexes, { wish: asked, leaseId, deadline });
      this.queue.push(waiter);
      return waiter;
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
    expect(eligible?.wish, "a wish waits that could be served").toBeUndefined();
    return result;
  }

  override wait(ms: number): void {
    const end = this.at + ms;
    for (let due = this.#wakeAt(); due < end; due = this.#wakeAt()) super.wait(Math.max(0, due - this.at));
    super.wait(end - this.at);
  }

  #wakeAt(): number {
    const due = this.waiting?.wakeAt(this.candidates) ?? Infinity;
    return due <= this.at ? Infinity : due;
  }

  #serve(turn: Turn): void {
    let first: Waiter | undefined;
    const look = (): boolean => {
      first = this.#firstEligible();
      return true;
    };
    this.waiting?.serve(turn, this.candidates, look, (waiter, granted) => {
      if ("lease" in granted) expect(waiter.wish, "who is served is the first who can be").toEqual(first?.wish);
      this.queue.splice(this.queue.indexOf(waiter), 1);
      const refusal = "refusal" in granted ? { refusal: granted.refusal } : {};
      this.served.push({ waiter, proxyId: "lease" in granted ? granted.lease.proxy.id : undefined, ...refusal });
    });
  }

  #firstEligible(): Waiter | undefined {
    return this.queue.find(({ wish }) => isEligible(this.state, wish));
  }
}

/** Could this wish be granted now? A plain look at every proxy. */
export function isEligible(state: PoolState, wish: LeaseRequest): boolean {
  const { leasesMax } = state.rules.policy.holder;
  const ofHolder = [...state.leases.values()].filter((lease) => lease.wish?.holder === wish.holder).length;
  if (wish.holder !== undefined && leasesMax !== null && ofHolder >= leasesMax) return false;
  return candidates(state, wish).some(
    (proxy) => hasRoom(state, proxy, wish.minUses) && (wish.token !== true || isGood(state, tokenFor(state, proxy))),
  );
}

/** The proxies that will do for it: its session's, or all that match. */
export function candidates(state: PoolState, wish: LeaseRequest): Proxy[] {
  const { policy } = state.rules;
  const matching = [...state.proxies.values()].filter((proxy) => matches(proxy, wish));
  const session = [...state.sessions.values()].find(({ name }) => name === wish.session);
  const bound = matching.find((proxy) => proxy.id === session?.proxyId);
  const restMs = bound === undefined ? 0 : restsUntil(state, bound, wish.minUses) - state.at;
  const keepsTo = bound !== undefined && restMs <= policy.session.patienceMs && everServes(bound, wish.minUses);
  return keepsTo ? [bound] : matching;
}

function matches(proxy: Proxy, wish: LeaseRequest): boolean {
  if (proxy.state === "retired" || wish.exclude?.includes(proxy.id) === true) return false;
  if (wish.schemes !== undefined && !wish.schemes.includes(proxy.scheme)) return false;
  return Object.entries(wish.labels ?? {}).every(([key, value]) => proxy.labels[key] === value);
}

/** The rest that is due counts as begun: it begins as soon as somebody looks. */
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
  // Idle for as long as its rest: that was its rest.
  return uses <= usage.limit && exit.leases.length === 0 && exit.lastClosedAt + usage.restMs <= state.at;
}
