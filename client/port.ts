// The way to the service, over NATS or HTTP. One attempt per call, without retries. From the domain it knows only the
// verb. The caller (ask.ts) handles failed attempts.
import type { Verb } from "../protocol/verbs.ts";
import { onAbort } from "./signals.ts";

export type AskedVerb = Extract<Verb, "lease" | "renew" | "release" | "report">;

export interface Attempt {
  verb: AskedVerb;
  pool: string;
  body: Record<string, unknown>;
  /** The attempt is given up after this. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Called with a reply that arrives after the signal has ended the attempt. */
  late?: ((reply: unknown) => void) | undefined;
}

/** The reply's JSON, a refusal included. */
export interface Port {
  /** No more than `requestBytesMax`; less if an intermediary accepts less. */
  readonly bytesMax: number;
  /** @throws Broken; RemudaFault "not-allowed", "not-remuda"; the signal's reason. */
  attempt(attempt: Attempt): Promise<unknown>;
  /** Cancels a waiting request if possible. A lease that was granted nevertheless has arrived when this resolves. */
  cancel(pool: string, requestId: string): Promise<void>;
  /** Calls back each time the pool has a new leader, until the returned function is called. Absent: it is not told. */
  onNewLeader?(pool: string, callback: () => void): () => void;
  /** No request is made any more. Requests under way may be cut. */
  close(): Promise<void>;
}

/** The attempt may or may not have been done; the same request may be tried again. */
export class Broken extends Error {
  override readonly name = "Broken";
  /** "new-leader": the one that was asked leads no more, and the next one can be asked at once. */
  readonly why: "no-connection" | "no-answer" | "no-leader" | "new-leader";

  constructor(why: Broken["why"], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.why = why;
  }
}

/** @throws the signal's reason, as soon as the signal fires. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted();
  let off = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    off = onAbort(signal, () => reject(signal?.reason));
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    off();
  }
}
