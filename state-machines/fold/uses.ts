// The uses of a lease: which are reported, and how late one may reach the target.
import type { Lease, PoolState } from "./state.ts";

export function isReported(lease: Lease, n: number): boolean {
  return n <= lease.reportedTo || lease.reportedMore.includes(n);
}

export function markReported(lease: Lease, n: number): void {
  if (isReported(lease, n)) throw new Error(`use ${n} of ${lease.id} is reported twice`);
  lease.reportedMore.push(n);
  while (lease.reportedMore.includes(lease.reportedTo + 1)) {
    lease.reportedTo++;
    lease.reportedMore.splice(lease.reportedMore.indexOf(lease.reportedTo), 1);
  }
}

/** How many of the uses 1..used are reported. */
export function reportedUpTo(lease: Lease, used: number): number {
  return Math.min(lease.reportedTo, used) + lease.reportedMore.filter((n) => n <= used).length;
}

/** The highest reported use. 0: none is reported. */
export function highestReported(lease: Lease): number {
  return lease.reportedMore.length === 0 ? lease.reportedTo : Math.max(...lease.reportedMore, lease.reportedTo);
}

/** How long after its end a request of the lease may still reach the target. */
export function graceOf(state: PoolState, lease: Lease): number {
  return Math.max(lease.graceMs, state.rules.policy.lease.graceMs);
}
