// The two errors of this client. A refusal is the service's answer, expected and typed: nothing was changed. A fault is
// everything else: no answer, wrong options, a bound of this client. Neither ever holds a password or a key.
import type { Refusal } from "../events/refusal.ts";
import type { LimitedBy, RefusalWord } from "./wire.ts";

/** The service said no. `code` says why, and is what to switch on. */
export class RemudaRefusal extends Error {
  override readonly name = "RemudaRefusal";
  readonly code: RefusalWord;
  /** After this, asking again may be answered differently. */
  readonly retryAfterMs: number | undefined;
  /** Of `pool-exhausted`: how many matching proxies each rule holds back. */
  readonly limitedBy: LimitedBy | undefined;
  /** Of `invalid-request`: which field. */
  readonly field: string | undefined;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.code = refusal.code;
    this.retryAfterMs = refusal.retryAfterMs;
    this.limitedBy = refusal.limitedBy;
    this.field = refusal.field;
  }
}

/**
 * `no-connection` nobody answers there · `no-answer` sent, and no reply in time: it may have been done ·
 * `not-allowed` credentials refused · `wrong-options` a mistake in a call · `not-remuda` something else answers there ·
 * `closed` this client is closed · `queue-full` too many requests wait here · `lease-over` the lease's time or uses are
 * over · `report-lost` outcomes could not be delivered.
 */
export type FaultCode =
  | "no-connection"
  | "no-answer"
  | "not-allowed"
  | "wrong-options"
  | "not-remuda"
  | "closed"
  | "queue-full"
  | "lease-over"
  | "report-lost";

export class RemudaFault extends Error {
  override readonly name = "RemudaFault";
  readonly code: FaultCode;

  constructor(code: FaultCode, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** A proxy failed at its own business, before the target was asked: its own answer, or its TLS, or its SOCKS reply. */
export class ProxyFailure extends Error {
  override readonly name = "ProxyFailure";
  /** Never one of undici's own codes for a lost socket: it would dial again by itself. */
  readonly code = "ERR_PROXY";
  readonly reason: "proxy-auth" | "proxy-error";
  /** The proxy's own HTTP status, where it answered with one. */
  readonly proxyStatus: number | undefined;

  constructor(
    reason: "proxy-auth" | "proxy-error",
    message: string,
    more: { cause?: unknown; proxyStatus?: number } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.reason = reason;
    this.proxyStatus = more.proxyStatus;
  }
}

/** The target's name, looked up here for a proxy that takes addresses alone, has none: no proxy is to blame. */
export class TargetNameFailure extends Error {
  override readonly name = "TargetNameFailure";
  readonly code = "ENOTFOUND";
}

/** The first code in a chain of causes; undici and fetch wrap what the socket said. */
export function codeOf(error: unknown): string | undefined {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 8; inner = inner.cause, depth++) {
    if ("code" in inner && typeof inner.code === "string") return inner.code;
    if (inner.name === "AbortError" || inner.name === "TimeoutError") return inner.name;
  }
  return undefined;
}
