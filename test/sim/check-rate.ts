// The promise itself: in no window does the target see more requests of an exit than the limit. The check knows only
// when each request arrived, and the promise that was made when its use was granted: together with all uses that count
// at that exit, no more requests come than the limit. These are the uses that were granted through an exit of that
// name, and those that count there because proxies have moved.
import type { BookLease } from "./account.ts";
import { type Court, short } from "./court.ts";

/** No window of the simulator's policies is wider. */
const widestMs = 6000;

export class RateChecker {
  readonly #court: Court;
  /** Exits that the target saw exactly at their limit: if there are none, the check proves nothing. */
  readonly atLimit = new Set<string>();
  arrivals = 0;
  #recent: { at: number; lease: BookLease }[] = [];

  constructor(court: Court) {
    this.#court = court;
  }

  /** A request of this lease has reached the target now. */
  arrived(leaseId: string): void {
    const { book, world } = this.#court;
    const lease = book.leases.get(leaseId);
    if (lease === undefined)
      return this.#court.find("answer", `a worker holds ${short(leaseId)}, which is in no ledger`);
    this.arrivals++;
    this.#recent = this.#recent.filter((each) => each.at > world.now - widestMs);
    this.#recent.push({ at: world.now, lease });
    for (const latest of new Set(this.#recent.map((each) => each.lease))) {
      if (latest === lease || isWith(lease, latest)) this.#check(latest);
    }
  }

  /** Checks the promise that was made with this grant. */
  #check(latest: BookLease): void {
    const { now } = this.#court.world;
    for (const { windowMs, limit, from } of latest.rates) {
      const within = this.#recent.filter(
        ({ at, lease }) => at > now - windowMs && (lease === latest || isWith(lease, latest)),
      );
      // Counting from the grant promises nothing about the target's view.
      if (latest.grantedAt < from || within.some(({ lease }) => lease.wasFromGrant)) continue;
      if (within.length === limit) this.atLimit.add(latest.exit);
      if (within.length <= limit) continue;
      const moved = within.some(({ lease }) => lease.exit !== latest.exit) ? " and of exits that it was before" : "";
      return this.#court.find(
        "rate",
        `the target saw ${within.length} requests of ${latest.exit}${moved} in the ${windowMs} ms up to ${now} (limit ${limit}); ` +
          `the last use was granted at ${latest.grantedAt}`,
      );
    }
  }
}

/** Was it granted before, and counted with the other one? */
function isWith(lease: BookLease, latest: BookLease): boolean {
  return lease.place < latest.place && (lease.exit === latest.exit || latest.counted.has(lease));
}
