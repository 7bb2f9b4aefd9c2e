// The codes of refusals, and the rules that `limitedBy` counts. A code's number is the HTTP status, and travels in the
// service-error headers of NATS.

export const refusalNumbers = {
  "invalid-request": 400,
  forbidden: 403,
  "no-match": 404,
  "unknown-pool": 404,
  "unknown-lease": 404,
  "unknown-proxy": 404,
  "no-token-source": 404,
  "too-large": 413,
  "pool-exhausted": 429,
  overloaded: 503,
  unavailable: 503,
  "token-unavailable": 503,
} as const;

export type RefusalWord = keyof typeof refusalNumbers;

/** The rules that limit grants through an exit. Their objects are in state-machines/rules. */
export const exitRuleNames = ["rate", "concurrency", "usage", "bytes"] as const;
export type ExitRuleName = (typeof exitRuleNames)[number];

/** All the reasons that can hold a proxy back. */
export const limitNames = [...exitRuleNames, "rest", "exclude", "session", "holder"] as const;
export type LimitName = (typeof limitNames)[number];

/** Counted only if the policy has such a cap, and `holder` only if the holder is at it. */
export const capNames: readonly LimitName[] = ["bytes", "holder"] satisfies CapName[];
type CapName = "bytes" | "holder";

/** How many matching proxies each holds back. `session`: the session is bound to another proxy. */
export type LimitedBy = Record<Exclude<LimitName, CapName>, number> & Partial<Record<CapName, number>>;
