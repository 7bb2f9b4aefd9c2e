// Sends a request to the service, and repeats it if needed. Every request here may be sent twice: a lease request has
// its requestId, a report counts each use once, and renewal and release state the desired result. So while the link is
// broken, or there is no leader, the same request is sent again until its time is over.
import { isRefusal } from "../protocol/refusal.ts";
import { RemudaFault, RemudaRefusal } from "./fault.ts";
import { type Attempt, Broken, type Port } from "./port.ts";
import { onAbort } from "./signals.ts";

/** How long to wait for an answer, in addition to the request's own `waitMs`. */
const answerMs = 15_000;
const firstPauseMs = 50;
const pauseMsMax = 1000;

/** `late`: as of an attempt, for the whole request. `waitMs`: how long the service may let it wait. */
export type Asked = Omit<Attempt, "timeoutMs"> & { waitMs?: number };

/**
 * @throws RemudaRefusal; RemudaFault; the signal's reason. A lease request that still waits when the signal fires is
 * cancelled.
 */
export type Ask = <Reply extends object>(asked: Asked) => Promise<Reply>;

export interface AskOptions {
  retryMs: number;
  /** If true, nothing is sent again. */
  isClosed: () => boolean;
  /** Tracks work that continues when no caller waits for it any more. */
  track: (work: Promise<unknown>) => void;
}

export function askThrough(port: Port, { retryMs, isClosed, track }: AskOptions): Ask {
  return async <Reply extends object>(asked: Asked): Promise<Reply> => {
    const { verb, pool, body, signal } = asked;
    signal?.throwIfAborted();
    if (verb !== "lease") return again<Reply>(asked);
    const cancel = (): void => track(port.cancel(pool, String(body["requestId"])));
    const off = onAbort(signal, cancel);
    try {
      return await again<Reply>(asked);
    } finally {
      off();
    }
  };

  async function again<Reply extends object>({ verb, pool, body, waitMs = 0, signal, late }: Asked): Promise<Reply> {
    const startedAt = performance.now();
    const until = startedAt + waitMs + retryMs;
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(Math.max(firstPauseMs, pauseMs * 2), pauseMsMax)) {
      let failure: Error;
      try {
        const leftMs = Math.max(0, Math.round(waitMs - (performance.now() - startedAt)));
        const requested = verb === "lease" && waitMs > 0 ? { ...body, waitMs: leftMs } : body;
        const reply = await port.attempt({ verb, pool, body: requested, timeoutMs: answerMs + leftMs, signal, late });
        if (!isRefusal(reply)) return reply as Reply; // The protocol defines the reply of this verb.
        const refusal = new RemudaRefusal(reply);
        if (refusal.code !== "unavailable") throw refusal;
        failure = refusal;
        pauseMs = Math.min(pauseMsMax, Math.max(pauseMs, refusal.retryAfterMs ?? 0));
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        failure = known(error, pool);
        // The next pause is long only if the new leader does not answer either.
        if (error.why === "new-leader") pauseMs = 0;
      }
      if (isClosed()) throw new RemudaFault("closed", "This client was closed before there was an answer.");
      if (performance.now() + pauseMs > until) throw failure;
      if (pauseMs > 0) await pause(pauseMs, pool, signal);
    }
  }

  /** Ends early when the pool has a new leader. @throws the signal's reason. */
  async function pause(ms: number, pool: string, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    let off: (() => void)[] = [];
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      off = [() => clearTimeout(timer), onAbort(signal, resolve), port.onNewLeader?.(pool, resolve) ?? (() => {})];
    });
    for (const each of off) each();
    signal?.throwIfAborted();
  }
}

function known(broken: Broken, pool: string): Error {
  const { why } = broken;
  if (why !== "no-leader" && why !== "new-leader") return new RemudaFault(why, broken.message, { cause: broken });
  const message = `The pool ${pool} has no leader at the moment.`;
  return new RemudaRefusal({ code: "unavailable", message, retryAfterMs: 1000 });
}
