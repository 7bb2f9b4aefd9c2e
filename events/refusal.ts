// Refusals: the expected answers that are not what was asked for. A closed union of words, each with its number, which
// travels in the service-error headers of NATS and as the status of HTTP. A refusal changes nothing.

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

export interface Refusal {
  code: RefusalWord;
  /** A sentence: what was wrong, where, what to do. Never a secret. */
  message: string;
  retryAfterMs?: number;
  /** The field of the request that is at fault, as a path: `policy.backoff.jitterShare`. */
  field?: string;
  limitedBy?: LimitedBy;
}

export function refuse(code: RefusalWord, message: string, rest: Omit<Refusal, "code" | "message"> = {}): Refusal {
  return { code, message, ...rest };
}

export function isRefusal(reply: unknown): reply is Refusal {
  return typeof reply === "object" && reply !== null && "code" in reply && "message" in reply;
}
