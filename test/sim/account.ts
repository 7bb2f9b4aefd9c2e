// What is counted against one exit, in an outsider's reading of the ledger.
import type { Limits, Policy, RateWindow } from "../../events/policy.ts";
import type { BookLease, BookProxy } from "./book.ts";

export interface Arrival {
  at: number;
  lease: BookLease;
}

export class Account {
  readonly key: string;
  readonly members = new Set<BookProxy>();
  readonly open = new Set<BookLease>();
  /** The last instant at which the target can have seen each use that is over. */
  slots: number[] = [];
  stint = 0;
  /** When its last lease ended. */
  idleFrom = 0;
  restUntil = 0;
  /** The widest window that was full after a grant, with its limit then. */
  filled: RateWindow | undefined;
  /** What the target saw of it, in order. */
  arrivals: Arrival[] = [];
  /** In force now; `from`: when it may be counted on. */
  rates: readonly (RateWindow & { from: number })[] = [];
  concurrency = Infinity;
  usage: Policy["usage"] = null;
  #isNew = true;

  constructor(key: string) {
    this.key = key;
  }

  /** The strictest of what its proxies, retired ones too, say for themselves or leave to the policy. */
  limit(policy: Policy, at: number): void {
    const own: Limits[] = this.members.size === 0 ? [{}] : [...this.members].map((proxy) => proxy.limits ?? {});
    const widest = Math.max(0, ...this.rates.map((rate) => rate.windowMs));
    const from = Math.max(0, ...this.rates.map((rate) => rate.from));
    const known = new Map(this.rates.map((rate) => [rate.windowMs, rate.from]));
    const rates = own.flatMap(({ rate = policy.rate }) => rate ?? []);
    this.rates = rates.map((rate) => ({
      ...rate,
      // A window that is wider than all before it holds from one window later.
      from: this.#isNew
        ? 0
        : (known.get(rate.windowMs) ?? (rate.windowMs <= widest ? from : at + rate.windowMs + policy.marginMs)),
    }));
    this.#isNew = false;
    this.concurrency = Math.min(...own.map(({ concurrency = policy.concurrency }) => concurrency ?? Infinity));
    const usages = own.map(({ usage = policy.usage }) => usage).filter((usage) => usage !== null);
    usages.sort((a, b) => a.limit - b.limit || b.restMs - a.restMs);
    this.usage = usages[0] ?? null;
  }

  rest(until: number): void {
    this.stint = 0;
    this.restUntil = Math.max(this.restUntil, until);
  }

  freeSlot(at: number): void {
    const place = this.slots.indexOf(at);
    if (place >= 0) this.slots.splice(place, 1);
  }

  /** Slots occupied in a window: uses not reported yet, and those that the target may have seen within it. */
  occupied(windowMs: number, at: number, marginMs: number): number {
    let count = 0;
    for (const lease of this.open) {
      if (!lease.fromGrant) for (let n = 1; n <= lease.uses; n++) if (!lease.reported.has(n)) count++;
    }
    for (const slot of this.slots) if (at <= slot + windowMs + marginMs) count++;
    return count;
  }

  /** The widest window with as many slots as it may have. */
  full(at: number, marginMs: number): RateWindow | undefined {
    const full = this.rates.filter(({ limit, windowMs }) => this.occupied(windowMs, at, marginMs) >= limit);
    return full.sort((a, b) => b.windowMs - a.windowMs)[0];
  }

  fill(window: RateWindow | undefined): void {
    if (window !== undefined && window.windowMs > (this.filled?.windowMs ?? 0)) this.filled = window;
  }

  /** @param widened when a window holds that is wider than all that the old one had: what it knew is counted on. */
  takeOver(old: Account, widened: (windowMs: number) => number): void {
    const widest = Math.max(0, ...old.rates.map((rate) => rate.windowMs));
    const from = Math.max(0, ...old.rates.map((rate) => rate.from));
    const rates = this.rates.map((rate) => ({
      ...rate,
      from: Math.max(rate.from, rate.windowMs <= widest ? from : widened(rate.windowMs)),
    }));
    this.fill(old.filled);
    this.slots.push(...old.slots);
    this.stint += old.stint;
    this.idleFrom = Math.max(this.idleFrom, old.idleFrom);
    this.restUntil = Math.max(this.restUntil, old.restUntil);
    for (const lease of old.open) this.open.add(lease);
    // One that was unknown before is the same address by another name.
    if (this.arrivals.length === 0) this.arrivals = old.arrivals;
    this.rates = rates;
  }
}
