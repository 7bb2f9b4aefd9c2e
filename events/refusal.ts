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

/** How many matching proxies each rule holds back; one proxy may be held back by several. */
export interface LimitedBy {
  rate: number;
  concurrency: number;
  usage: number;
  rest: number;
  exclude: number;
  /** All but the session's own proxy, where the session is bound to one. */
  session: number;
  /** All, where the wish's holder has as many open leases as it may. Absent otherwise. */
  holder?: number;
}
