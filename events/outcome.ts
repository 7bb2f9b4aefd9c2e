// Outcomes: their classes, and what the ledger records of them.
/** Whose fault it is decides what follows; `success` is the tenth class. */
export const reasons = [
  "unreachable",
  "timeout",
  "proxy-auth",
  "proxy-error",
  "blocked",
  "throttled",
  "target-error",
  "client-abort",
] as const;
export type Reason = (typeof reasons)[number];
export const outcomeClasses = ["success", ...reasons] as const;
export type OutcomeClass = (typeof outcomeClasses)[number];

/** Why an outcome was ignored. */
export const whysIgnored = [
  "unreadable",
  "unknown-lease",
  "n-missing",
  "n-too-large",
  "no-result",
  "duplicate",
] as const;
export type WhyIgnored = (typeof whysIgnored)[number];

/** One use, reported. Everything that follows from it for the proxy is here as decided: a later policy changes nothing. */
export interface UseReported {
  type: "UseReported";
  leaseId: string;
  n: number;
  proxyId: string;
  class: OutcomeClass;
  result: "success" | "failure" | "neutral";
  /** Counts for the failure window. */
  counts?: true | undefined;
  /** The proxy's score and streak after this outcome. */
  score: number;
  streak: number;
  /** From here the slot of this use runs: the request reached the target no later than this. Absent: no slot moves. */
  slotAt?: number | undefined;
  /** When the broker stored it (ms); of an outcome sent as a request, when it was taken up. */
  storedAt: number;
  status?: number | undefined;
  error?: string | undefined;
  latencyMs?: number | undefined;
  bytes?: number | undefined;
  target?: string | undefined;
  retryAfterMs?: number | undefined;
  tokenRejected?: true | undefined;
  tokenId?: string | undefined;
  final?: true | undefined;
  /** Stored after the lease's end and grace: a result and a slot, not a use. */
  late?: true | undefined;
  /** A use beyond those granted, or one that had been returned: an anomaly. */
  over?: true | undefined;
}

/** Aggregated per commit. */
export interface OutcomesIgnored {
  type: "OutcomesIgnored";
  why: WhyIgnored;
  count: number;
}
