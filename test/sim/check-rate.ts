// The promise itself: in no window does the target see more requests of an exit than the limit. It knows only when each
// request arrived, and what was promised when its use was granted.
import { type Court, short } from "./court.ts";

export class RateChecker {
  readonly #court: Court;
  /** Exits that the target saw exactly at their limit: without any, the check has nothing to bite on. */
  readonly atLimit = new Set<string>();
  arrivals = 0;

  constructor(court: Court) {
    this.#court = court;
  }

  /** A request of this lease has reached the target now. */
  arrived(leaseId: string): void {
    const { book, world } = this.#court;
    const lease = book.leases.get(leaseId);
    if (lease === undefined)
      return this.#court.find("answer", `a worker holds ${short(leaseId)}, which is in no ledger`);
    const { arrivals } = lease;
    const { key } = lease.account;
    this.arrivals++;
    arrivals.push({ at: world.now, lease });
    const widest = Math.max(0, ...arrivals.slice(-40).flatMap((each) => each.lease.rates.map((rate) => rate.windowMs)));
    const recent = arrivals.filter((each) => each.at > world.now - widest);
    for (const windowMs of new Set(recent.flatMap((each) => each.lease.rates.map((rate) => rate.windowMs)))) {
      const within = recent.filter((each) => each.at > world.now - windowMs);
      // Counting from the grant promises nothing about what the target sees.
      if (within.some((each) => each.lease.wasFromGrant)) continue;
      const latest = within.reduce((a, b) => (b.lease.place > a.lease.place ? b : a)).lease;
      const limits = latest.rates.filter((rate) => rate.windowMs === windowMs && latest.grantedAt >= rate.from);
      if (limits.length === 0) continue;
      const limit = Math.min(...limits.map((rate) => rate.limit));
      if (within.length === limit) this.atLimit.add(key);
      if (within.length > limit) {
        this.#court.find(
          "rate",
          `the target saw ${within.length} requests of ${key} in the ${windowMs} ms up to ${world.now} (limit ${limit}); ` +
            `the last use was granted at ${latest.grantedAt}`,
        );
        return;
      }
    }
  }
}
