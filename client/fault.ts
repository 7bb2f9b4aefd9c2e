// The two errors of this client. A refusal is the service's answer, expected and typed: nothing was changed. A fault is
// everything else: no answer, wrong options, a bound of this client. Neither ever holds a password or a key.
import type { Refusal } from "../protocol/refusal.ts";
import type { LimitedBy, RefusalWord } from "../protocol/wire.ts";

/** The service refused. `code` gives the reason; switch on it. */
export class RemudaRefusal extends Error {
  override readonly name = "RemudaRefusal";
  readonly code: RefusalWord;
  /** After this time, the same request may be answered differently. */
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
 * `no-connection` no service answers there · `no-answer` sent, but no reply in time: it may have been done ·
 * `not-allowed` credentials refused · `wrong-options` a mistake in a call · `not-remuda` another program answers there
 * · `closed` this client is closed · `queue-full` too many requests wait here · `lease-over` the lease's time or uses
 * are over · `report-lost` outcomes could not be delivered · `report-late` a report came after the outcome had been
 * sent.
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
  | "report-lost"
  | "report-late";

export class RemudaFault extends Error {
  override readonly name = "RemudaFault";
  readonly code: FaultCode;

  constructor(code: FaultCode, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export function reportLate(n: number, leaseId: string): RemudaFault {
  return new RemudaFault(
    "report-late",
    `The outcome of use ${n} of ${leaseId} had already been sent. Report it within a second, and before the next use.`,
  );
}
