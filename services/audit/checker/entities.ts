// The entities that the model keeps, and the questions that one entity can answer alone. Every other file of the
// checker may import this one. So it imports neither the model nor a file that imports the model.
import type { Labels } from "../../../events/ids.ts";
import type { Limits, RateWindow } from "../../../events/policy.ts";
import type { Bases } from "./bases.ts";
import type { Limited } from "./limits.ts";
import type { Peak } from "./tally.ts";

export interface ExitModel {
  readonly key: string;
  readonly members: ProxyModel[];
  limits: Limited;
  /** Number of open leases. */
  leases: number;
  /** Granted uses of open leases that are not reported yet: their slots have no end. */
  held: number;
  readonly bases: Bases;
  /**
   * Slots that ran out before this may have been forgotten. After a window is widened, it is known only one new window
   * later.
   */
  floor: number;
  /** The latest moments of uses whose slots run from their grants. They bound what the target can have seen. */
  readonly shadow: { held: number; readonly bases: Bases };
  usesSinceRest: number;
  restUntil: number;
  /** When its last usage rest was recorded, and until when it lasts. */
  restBeganAt: number;
  restBeganUntil: number;
  lastClosedAt: number;
  /** Grants through other exits that count here. For a past exit: the exits that count it. */
  past: Past[];
  countedBy: Set<ExitModel> | undefined;
  /** `drain`: the widest window that was full after a grant. null: none; undefined: not known. */
  filled: RateWindow | null | undefined;
  /** The maximum in each of its windows. */
  readonly peaks: Peak[];
}

export interface ProxyModel {
  readonly id: string;
  readonly scheme: string;
  readonly host: string;
  /** The exit under which its limits are kept. */
  exit: ExitModel;
  /** The address it leaves from, as labelled or literal. */
  exitName: string;
  labels: Labels;
  own: Limits | undefined;
  state: string;
  until: number;
  reasons: readonly string[];
  epoch: number;
  score: number;
  streak: number;
  streakRests: number;
  failures: number[];
  openLeases: number;
  granted: number;
  retiredAt: number;
  lastUsedAt: number;
  lastClosedAt: number;
  /** When it was added, and when it was last added or returned, in the order of all proxies. */
  addedOrder: number;
  stackOrder: number;
  /** When it was last granted; `time-based`: when it was first granted in the interval of its last grant. */
  usedOrder: number;
  turnOrder: number;
}

export interface LeaseModel {
  readonly id: string;
  readonly proxy: ProxyModel;
  exit: ExitModel;
  readonly uses: number;
  readonly epoch: number;
  readonly grantedAt: number;
  /** Cleared when it closes, like the holder. */
  requestId: string | undefined;
  /** All leases of its request, in the order of granting. Undefined: it is the only one. */
  siblings: LeaseModel[] | undefined;
  holder: string | undefined;
  expiresAt: number;
  /** By the policy at its grant: requests under way may take this long, whatever a later policy says. */
  readonly graceMs: number;
  session: string | undefined;
  /** Slots it holds: without an end while it is open, from `closedSlotAt` on afterwards. */
  held: number;
  /** For a lease counted from its grant: uses not reported yet. */
  shadow: number;
  /** All uses up to here are reported, and those in `beyond`. */
  reportedTo: number;
  beyond: Set<number> | undefined;
  /** Its worker has said which use was the last. */
  isFinal: boolean;
  /** 0 while it is open. */
  closedAt: number;
  used: number;
  closedSlotAt: number;
}

/** Why a rest must begin, and its earliest and latest end. */
export interface Cause {
  reason: string;
  from: number;
  to: number;
}

export interface Past {
  readonly of: ExitModel;
  /** Its usage quota when the exit that counts it last had its usage rest. */
  since: number;
}

export interface TokenModel {
  /** A proxy's id, or "pool". */
  readonly key: string;
  state: string;
  /** "" if there was none yet. */
  tokenId: string;
  mintedAt: number;
  /** Infinity if no end is known. */
  expiresAt: number;
  isRejected: boolean;
  refresh: { tokenId: string; deadlineAt: number } | undefined;
  failures: number;
  retryAt: number;
}

export function isResting(proxy: ProxyModel): boolean {
  return proxy.state === "cooling" || proxy.state === "exhausted";
}

export function isReported(lease: LeaseModel, n: number): boolean {
  return n <= lease.reportedTo || lease.beyond?.has(n) === true;
}

/** How many of the uses 1..used are reported. */
export function reportedOf(lease: LeaseModel, used: number): number {
  let count = Math.min(lease.reportedTo, used);
  if (lease.beyond !== undefined) for (const n of lease.beyond) if (n <= used) count++;
  return count;
}

export function highestReported(lease: LeaseModel): number {
  return Math.max(lease.reportedTo, ...(lease.beyond ?? []));
}

export function markReported(lease: LeaseModel, n: number): boolean {
  if (isReported(lease, n)) return false;
  if (n !== lease.reportedTo + 1) {
    lease.beyond ??= new Set();
    lease.beyond.add(n);
    return true;
  }
  lease.reportedTo = n;
  while (lease.beyond?.delete(lease.reportedTo + 1)) lease.reportedTo++;
  return true;
}
