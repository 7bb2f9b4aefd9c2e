// Refusals: expected answers that do not grant the request. A closed union of codes. A refusal changes nothing.
import type { LimitedBy, RefusalWord } from "../events/refusal.ts";
import type { IgnoredOutcome } from "./wire.ts";

export interface Refusal {
  code: RefusalWord;
  /** A sentence that says what was wrong, where, and what to do. Never a secret. */
  message: string;
  retryAfterMs?: number;
  /** The field of the request that is at fault, as a path: `policy.backoff.jitterShare`. */
  field?: string;
  limitedBy?: LimitedBy;
  /** Of a report in which no outcome can be read. */
  ignored?: IgnoredOutcome[];
  ignoredCount?: number;
  /** Unknown fields of the request. */
  warnings?: string[];
}

export function refuse(code: RefusalWord, message: string, rest: Omit<Refusal, "code" | "message"> = {}): Refusal {
  return { code, message, ...rest };
}

/** @param why the error, without the full stop. */
export function invalid(field: string, why: string): Refusal {
  return refuse("invalid-request", `${field}: ${why}.`, { field });
}

/** A bound of the pool is reached. Transient: retry shortly. */
export function overloaded(message: string, retryAfterMs = 1000): Refusal {
  return refuse("overloaded", message, { retryAfterMs });
}

/** Larger requests are refused as `too-large`. Send long lists in several requests. */
export const requestBytesMax = 512 * 1024;

/** @param bytesMax lower than the protocol's if a component on the way accepts less. */
export function tooLarge(bytes: number, bytesMax = requestBytesMax): Refusal {
  return refuse("too-large", `The request has ${bytes} bytes, and the maximum is ${bytesMax}. Send it in parts.`);
}

export function isRefusal(reply: unknown): reply is Refusal {
  return typeof reply === "object" && reply !== null && "code" in reply && "message" in reply;
}
