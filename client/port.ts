// The way to the service, whichever it is: NATS or HTTP. One attempt per call, no retries, no words of the domain beyond
// the verb. What becomes of an attempt that failed is the caller's business (ask.ts).
import type { Verb } from "../protocol/verbs.ts";

export type AskedVerb = Extract<Verb, "lease" | "renew" | "release" | "report">;

export interface Attempt {
  verb: AskedVerb;
  pool: string;
  body: Record<string, unknown>;
  /** The attempt is given up after this. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Told of a reply that comes when the signal has ended the attempt. */
  late?: ((reply: unknown) => void) | undefined;
}

/** The reply's JSON, a refusal included. */
export interface Port {
  /** No more than `requestBytesMax`; less where what is between takes less. */
  readonly bytesMax: number;
  /** @throws Broken; RemudaFault "not-allowed", "not-remuda"; the signal's reason. */
  attempt(attempt: Attempt): Promise<unknown>;
  /** Takes a waiting request back, as far as it can be told to. What has been granted all the same has come by then. */
  cancel(pool: string, requestId: string): Promise<void>;
  /** Nothing is asked any more; what is under way may be cut. */
  close(): Promise<void>;
}

/** The attempt may or may not have been done; the same request may be tried again. */
export class Broken extends Error {
  override readonly name = "Broken";
  readonly why: "no-connection" | "no-answer" | "no-leader";

  constructor(why: Broken["why"], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.why = why;
  }
}
