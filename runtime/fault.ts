// A fault is something that went wrong outside the domain: a broker that is away, a port in use, a file that cannot be
// read. It carries a stable code, named by what the caller should do, and a sentence that says what, where and what to
// do about it. Refusals (expected answers of the domain) are values, and bugs are assertions: neither is a Fault.

export type FaultCode =
  /** The set-up is wrong: settings, files, ports. The user can mend it; retrying does not help. */
  | "fix-setup"
  /** Something else holds what we need (a data directory, a lock). */
  | "in-use"
  /** The broker, or a service, is away. Try again later. */
  | "retry-later"
  /** The ledger is not what it must be. Stop, keep the evidence. */
  | "stop-damaged"
  /** Another leader has taken over. Fall silent. */
  | "step-down";

export class Fault extends Error {
  readonly code: FaultCode;

  constructor(code: FaultCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = "Fault";
    this.code = code;
  }
}
