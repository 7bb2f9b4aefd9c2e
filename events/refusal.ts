// The codes of refusals, and how many proxies each rule held back: the ledger counts refusals by them.
// A code's number travels in the service-error headers of NATS, and is the status over HTTP.

export const refusalNumbers = {
  "invalid-request": 400,
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

/** The rules that limit what is granted through an exit. Their objects: state-machines/rules. */
export const exitRuleNames = ["rate", "concurrency", "usage", "bytes"] as const;
export type ExitRuleName = (typeof exitRuleNames)[number];

/** Everything that can hold a proxy back. */
export const limitNames = [...exitRuleNames, "rest", "exclude", "session", "holder"] as const;
export type LimitName = (typeof limitNames)[number];

/** These are counted only where the policy has such a cap (`holder`: only where the holder is at it). */
export const capNames: readonly LimitName[] = ["bytes", "holder"] satisfies CapName[];
type CapName = "bytes" | "holder";

/**
 * How many matching proxies each of them holds back; one proxy may be held back by several. `session`: all but the
 * session's own proxy, where the session is bound to one.
 */
export type LimitedBy = Record<Exclude<LimitName, CapName>, number> & Partial<Record<CapName, number>>;
