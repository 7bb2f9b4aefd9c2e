// A fault is a failure outside the domain: a broker that is away, a port in use, a file that cannot be read. It carries
// a stable code, which tells the caller how to react. Its sentence says what failed, where, and what to do about it.
// Refusals (expected answers of the domain) are values, and bugs are assertions: neither is a Fault.

export type FaultCode =
  /** The setup is wrong: settings, files, ports. The user can fix it; retrying does not help. */
  | "fix-setup"
  /** Another process holds something that we need (a data directory, a lock). */
  | "in-use"
  /** The broker or a service is away. Try again later. */
  | "retry-later"
  /** The ledger is damaged. Stop, and keep the evidence. */
  | "stop-damaged"
  /** A newer version wrote the ledger. Update this process. */
  | "stop-newer"
  /** Another leader has taken over. Stop answering. */
  | "step-down";

export class Fault extends Error {
  readonly code: FaultCode;

  constructor(code: FaultCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = "Fault";
    this.code = code;
  }
}

/** The ledger cannot be read to its end here. Trying again does not help. */
export function isForGood(error: unknown): boolean {
  return error instanceof Fault && (error.code === "stop-damaged" || error.code === "stop-newer");
}

/** The code that the system, or a library, gave the error ("ENOENT"). "" if it gave none. */
export function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

/** The error's message, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Returns `otherwise` if `read` throws. */
export function resultOr<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

export function cannotRead(path: string, cause: unknown): Fault {
  const code = codeOf(cause) || messageOf(cause);
  const why = { ENOENT: "there is no such file", EACCES: "no permission" }[code] ?? code;
  return new Fault("fix-setup", `${path} cannot be read (${why}). Check its name and permissions.`, { cause });
}

export function cannotWrite(path: string, cause: unknown): Fault {
  const what = `${path} cannot be written (${codeOf(cause) || messageOf(cause)}).`;
  return new Fault("fix-setup", `${what} Name a file in a folder that you may write to.`, { cause });
}
