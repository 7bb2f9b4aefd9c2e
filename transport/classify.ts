// Turns the end of a request into an outcome of the protocol. The pool's policy interprets a status or a code. A reason
// is named only if this client knows more: the proxy's own answer, or a cut by the caller or by the lease's end.

import type { Outcome } from "../protocol/wire.ts";
import { codeOf, ProxyFailure, TargetNameFailure } from "./failure.ts";

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
  /** What ended it early. */
  cutBy?: "caller" | "lease" | undefined;
  /** How much of the lease's whole time the request has had, from 0 to 1. */
  share?: number | undefined;
}

/**
 * If the lease's end cuts a request that has waited for half of the lease, that counts against the proxy. A shorter
 * wait proves nothing.
 */
export const hungShare = 0.5;
/** Mistakes of the request itself. */
const callers = [
  "UND_ERR_INVALID_ARG",
  "UND_ERR_NOT_SUPPORTED",
  "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_DESTROYED",
  "ERR_NOT_ALLOWED",
];

export function outcomeOf(ended: Ended): Outcome {
  const { leaseId, n, target, bytes, status } = ended;
  const latencyMs = Math.max(0, Math.round(ended.latencyMs));
  return { leaseId, n, target, latencyMs, bytes, ...(status === undefined ? {} : { status }), ...detailsOf(ended) };
}

function detailsOf(ended: Ended): Partial<Outcome> {
  const { status, error, cutBy, retryAfterMs } = ended;
  const retryAfter = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (error === undefined) return { ...retryAfter, ...(ended.byProxy === true ? { reason: "proxy-error" } : {}) };
  // The head had arrived, so the target was reached, whichever side broke off later. Its status counts.
  if (cutBy !== undefined && status !== undefined) return retryAfter;
  if (cutBy === "lease") return { reason: (ended.share ?? 0) >= hungShare ? "timeout" : "client-abort" };
  if (cutBy === "caller") return { reason: "client-abort" };
  const code = codeOf(error);
  if (error instanceof ProxyFailure) {
    const inner = codeOf(error.cause) ?? error.code;
    return {
      reason: error.reason,
      error: inner,
      ...(error.proxyStatus === undefined ? {} : { status: error.proxyStatus }),
    };
  }
  if (code === undefined || callers.includes(code))
    return status !== undefined ? retryAfter : { reason: "client-abort" };
  if (error instanceof TargetNameFailure) return { reason: "target-error", error: error.code };
  return { error: code };
}

/**
 * Whether another proxy may do better. False once a head has arrived, and for every time limit except the connection's.
 */
export function isProxyTrouble(error: Error): boolean {
  if (error instanceof ProxyFailure) return true;
  if (error instanceof TargetNameFailure) return false;
  return [
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "EPIPE",
    "ETIMEDOUT",
    ...undiciTrouble,
  ].includes(codeOf(error) ?? "");
}

const undiciTrouble = ["ENOTFOUND", "EAI_AGAIN", "UND_ERR_SOCKET", "UND_ERR_CONNECT_TIMEOUT"];

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
