// The uses and leases that count against one exit, in an outsider's reading of the ledger.
import type { RecordedRequest } from "../../events/lease.ts";
import type { Limits, Policy, RateWindow } from "../../events/policy.ts";

/** One use, wherever it counts. */
export interface Use {
  /** The last instant at which the target can have seen it. undefined: it may still see it. */
  slotAt: number | undefined;
  /** Returned: it counts nowhere. */
  returned: boolean;
}

export interface BookProxy {
  id: string;
  scheme: string;
  /** Host and port. */
  address: string;
  labels: Record<string, string>;
  exit: string;
  limits: Limits | undefined;
  account: Account;
  retired: boolean;
  resting: boolean;
  until: number;
  reasons: readonly string[];
  epoch: number;
  score: number;
  streak: number;
  streakRests: number;
  /** When they were stored. */
  failures: number[];
  open: number;
  totals: { granted: number; succeeded: number; failed: number; neutral: number };
}

export interface BookLease {
  id: string;
  proxy: BookProxy;
  /** Of the exit that it was granted through, whatever that is called later. */
  account: Account;
  exit: string;
  /** Leases that counted there when it was granted. */
  counted: ReadonlySet<BookLease>;
  uses: number;
  epoch: number;
  grantedAt: number;
  /** Place in the ledger. */
  place: number;
  expiresAt: number;
  request: RecordedRequest;
  /** The token given with it. */
  tokenId: string | undefined;
  /** Its uses count from the grant; of such uses the target may see more than the limit. */
  fromGrant: boolean;
  wasFromGrant: boolean;
  /** The grace that it was granted with. */
  graceMs: number;
  made: Use[];
  reported: Set<number>;
  closed: { used: number; at: number; how: string; slotAt: number } | undefined;
  /** The rates that held when it was granted, and since when each may be counted on. */
  rates: readonly (RateWindow & { from: number })[];
}

/** The bytes that a worker reported for a use. It counts at every exit that counts the use. */
export interface Report {
  at: number;
  bytes: number;
}

export class Account {
  readonly key: string;
  readonly members = new Set<BookProxy>();
  readonly open = new Set<BookLease>();
  /** Open or not. */
  readonly leases = new Set<BookLease>();
  readonly #uses = new Set<Use>();
  /** Those since its last usage rest. */
  readonly #usesSinceRest = new Set<Use>();
  restUntil = 0;
  /** In force now; `from`: when it may be counted on. */
  rates: readonly (RateWindow & { from: number })[] = [];
  concurrency = Infinity;
  usage: Policy["usage"] = null;
  #bytes: Policy["bytes"] = null;
  readonly #reports = new Set<Report>();
  #isNew = true;

  constructor(key: string) {
    this.key = key;
  }

  /** The strictest of the limits of its proxies, retired ones included: a proxy's own, or the policy's. */
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
    // Uses that have expired by then no longer count, whatever happens later.
    for (const report of this.#reports) if (!this.#counts(report, at)) this.#reports.delete(report);
    this.#bytes = policy.bytes;
  }

  /** Nothing is kept for a rule that is off. */
  report(report: Report): void {
    if (this.#bytes !== null) this.#reports.add(report);
  }

  #counts(report: Report, at: number): boolean {
    return this.#bytes !== null && at < report.at + this.#bytes.windowMs;
  }

  /** Has it reported its maximum of bytes? */
  isAtBytes(at: number): boolean {
    let sum = 0;
    for (const report of this.#reports) if (this.#counts(report, at)) sum += report.bytes;
    return this.#bytes !== null && sum >= this.#bytes.limit;
  }

  get usesSinceRest(): number {
    let count = 0;
    for (const { returned } of this.#usesSinceRest) if (!returned) count++;
    return count;
  }

  rest(until: number): void {
    this.#usesSinceRest.clear();
    this.restUntil = Math.max(this.restUntil, until);
  }

  /** @param given.inQuota it is not so late that only its slot counts. */
  count(use: Use, given: { inQuota: boolean }): void {
    this.#uses.add(use);
    if (given.inQuota) this.#usesSinceRest.add(use);
  }

  /** Slots occupied in a window: unreported uses, and uses that the target may have seen within it. */
  occupied(windowMs: number, at: number, marginMs: number): number {
    let count = 0;
    for (const { slotAt, returned } of this.#uses)
      if (!returned && (slotAt === undefined || at <= slotAt + windowMs + marginMs)) count++;
    return count;
  }

  /** @param widened the time from which a window holds if it is wider than all windows of the old account. */
  takeOver(old: Account, widened: (windowMs: number) => number): void {
    const widest = Math.max(0, ...old.rates.map((rate) => rate.windowMs));
    const from = Math.max(0, ...old.rates.map((rate) => rate.from));
    const rates = this.rates.map((rate) => ({
      ...rate,
      from: Math.max(rate.from, rate.windowMs <= widest ? from : widened(rate.windowMs)),
    }));
    for (const use of old.#uses) {
      // Perhaps the failures known so far have had their rest here already.
      if (this.#uses.has(use)) continue;
      this.#uses.add(use);
      if (old.#usesSinceRest.has(use)) this.#usesSinceRest.add(use);
    }
    for (const report of old.#reports) this.report(report);
    this.restUntil = Math.max(this.restUntil, old.restUntil);
    for (const lease of old.open) this.open.add(lease);
    for (const lease of old.leases) this.leases.add(lease);
    this.rates = rates;
  }
}
