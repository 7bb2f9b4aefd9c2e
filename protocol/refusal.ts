// Refusals: the expected answers that are not what was asked for. A closed union of codes. A refusal changes nothing.
import type { LimitedBy, RefusalWord } from "../events/refusal.ts";

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
