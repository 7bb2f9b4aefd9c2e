// Turns the end of a request into an outcome of the protocol. The pool's policy interprets a status or a code. A reason
// is named only if this client knows more: the phase of a failure (verdict.ts), the proxy's own answer, or a cut by the
// caller or by the lease's end.

import type { Outcome } from "../protocol/wire.ts";
import type { Route } from "./failure.ts";
import { verdictOf } from "./verdict.ts";

export interface Ended {
  leaseId: string;
  n: number;
  target: string;
  latencyMs: number;
  bytes: number;
  /** The target's status, once its head has arrived. */
  status?: number | undefined;
  retryAfterMs?: number | undefined;
  /** The head says that a proxy made it (RFC 9209). */
  byProxy?: boolean | undefined;
  error?: Error | undefined;
  route: Route;
  /** The reason why it ended early. */
  cut?: Cut | undefined;
}

export interface Cut {
  /** `timeout`: the caller's time limit. */
  by: "caller" | "timeout" | "lease";
  /** The part of the lease's or the caller's whole time that the request has had, from 0 to 1. */
  share: number;
  tookMs: number;
  /** The bytes of the body came slowly, though its reader was waiting for them. */
  drips?: boolean | undefined;
}

/**
 * If the lease's end or the caller's time limit cuts a request that has had half of that time, that counts against the
 * proxy. A shorter wait proves nothing.
 */
export const hungShare = 0.5;
/** A time limit below this proves nothing either: many proxies need longer for an answer. */
const hungMsMin = 200;
/** A body drips if it comes more slowly than this. */
const dripBytesPerSecond = 4096;

export function outcomeOf(ended: Ended): Outcome {
  const { leaseId, n, target, bytes, status } = ended;
  const latencyMs = Math.max(0, Math.round(ended.latencyMs));
  return { leaseId, n, target, latencyMs, bytes, ...(status === undefined ? {} : { status }), ...detailsOf(ended) };
}

function detailsOf({ status, error, cut, route, byProxy, retryAfterMs }: Ended): Partial<Outcome> {
  const retryAfter = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (error === undefined) return { ...retryAfter, ...(byProxy === true ? { reason: "proxy-error" } : {}) };
  if (cut !== undefined) {
    // If the head had arrived, the target was reached, and its status counts, unless the proxy let the body drip.
    if (status !== undefined) return cut.drips === true && hung(cut) ? { reason: "timeout" } : retryAfter;
    return { reason: hung(cut) ? "timeout" : "client-abort" };
  }
  const { next: _, ...verdict } = verdictOf(error, { route, headed: status !== undefined });
  return status !== undefined && verdict.error === undefined ? retryAfter : verdict;
}

function hung({ by, share, tookMs }: Cut): boolean {
  if (by === "caller" || share < hungShare) return false;
  return by === "lease" || tookMs >= hungMsMin;
}

/** @param ms without the time in which its reader paused. */
export function isDripping({ bytes, ms }: { bytes: number; ms: number }): boolean {
  return bytes * 1000 < dripBytesPerSecond * ms;
}

/** Seconds or a date (RFC 9110). Undefined if it is neither. */
export function readRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Math.min(Number(value) * 1000, 366 * 86_400_000);
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

/** Anything but a success may have begun a rest. */
export function mayRest({ status, reason, error }: Outcome): boolean {
  return (
    reason !== undefined ||
    error !== undefined ||
    (status !== undefined && status >= 400 && status !== 404 && status !== 410)
  );
}
