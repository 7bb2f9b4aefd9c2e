// Concurrency: limits how many leases of an exit are open at once. A lease is open until all its uses are reported, it
// is released, or it expires.
import type { Limits, Policy } from "../../events/policy.ts";
import { leasesOf } from "../fold/past.ts";
import { windowsOf } from "./rate.ts";
import type { ExitRule } from "./rule.ts";

export const concurrency = {
  name: "concurrency",
  holdsBack: "proxies whose exit has its maximum of open leases",
  holds: (_state, exit) => leasesOf(exit).length >= exit.limits.concurrency,
  roomAt(state, exit) {
    const open = leasesOf(exit);
    const { concurrency: limit } = exit.limits;
    if (open.length < limit) return state.at;
    const ends = open.map((lease) => lease.expiresAt).sort((a, b) => a - b);
    return ends[ends.length - limit] ?? 0;
  },
  /**
   * Each open lease has at least one use that counts for the quota and, unless uses count from their grants, for the
   * rate.
   */
  warnings({ concurrency: limit, countFrom, rate, usage }) {
    const windows = countFrom === "report" ? windowsOf(rate) : [];
    const most = Math.min(...windows.map((window) => window.limit), usage?.limit ?? Infinity);
    if (limit === null || limit <= most) return [];
    return [`concurrency: the other limits allow at most ${most} open leases, so ${limit} can never take effect`];
  },
  taken(_state, exit) {
    const { concurrency: limit } = exit.limits;
    return [`${leasesOf(exit).length}${limit === Infinity ? "" : ` of ${limit}`} leases open`];
  },
  held(_state, exit, _minUses, words) {
    const leases = leasesOf(exit).map((lease) => `${lease.id} until ${words.instant(lease.expiresAt)}`);
    return [`${leases.length} of ${exit.limits.concurrency} leases open (${leases.join(", ")})`];
  },
} satisfies ExitRule;

export function strictestConcurrency(policy: Policy, own: readonly Limits[]): number {
  return Math.min(...own.map(({ concurrency: each = policy.concurrency }) => each ?? Infinity));
}
