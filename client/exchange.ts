// One request on its way: one use. It stands between undici and the caller and observes the traffic. It lets nothing
// leave after the lease's end, and cuts the request there. When the body has ended, it reports the outcome once. This
// also holds for a request that is cancelled, or whose body is never read: the lease's end ends it.
//
// It uses undici's older form of observers (onConnect, onHeaders, …), because undici's fetch uses that form, and the
// newer one has no 1xx.
import type { Dispatcher } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import type { ProxyAgent } from "../transport/agents.ts";
import { type Cut, isDripping, outcomeOf } from "../transport/classify.ts";
import { ProxyFailure, type Route } from "../transport/failure.ts";
import { factsOf, type HeadFacts, headerIn, loginRefused } from "../transport/head.ts";
import { type Next, verdictOf } from "../transport/verdict.ts";
import type { Use } from "./block.ts";
import { RemudaFault } from "./fault.ts";
import { onAbort } from "./signals.ts";

/** The parts of the caller's call that all its requests share. */
export interface Call {
  signal: AbortSignal | undefined;
  /** `performance.now()` */
  startedAt: number;
}

export interface Passage {
  use: Use;
  agent: ProxyAgent;
  sent: Dispatcher.DispatchOptions;
  call: Call;
  /** On a new connection. */
  fresh: boolean;
  /** The caller's own dispatch handler. */
  inner: Dispatcher.DispatchHandler;
  /** Called once, with the outcome, before `inner` is notified of an end. */
  onOutcome(outcome: Outcome): void;
  /**
   * It failed before any answer, and the target was not at fault.
   * @param how.unsent nothing of it has reached the target
   * @returns true: it is tried again, and `inner` is not notified.
   */
  onTrouble(error: Error, how: { next: Exclude<Next, "never">; unsent: boolean }): boolean;
}

type Abort = (error?: Error) => void;

export class Exchange implements Dispatcher.DispatchHandler {
  readonly #passage: Passage;
  readonly #startedAt = performance.now();
  readonly #off: (() => void)[];
  #route: Route = "tunnelled";
  #abort: Abort | undefined;
  #cutBy: Cut["by"] | undefined;
  #said: HeadFacts | undefined;
  #headMs: number | undefined;
  #bytes = 0;
  /** Since when the reader of the body has paused, and for how long it had paused before. */
  #heldSince: number | undefined;
  #heldMs = 0;
  #over = false;

  constructor(passage: Passage) {
    this.#passage = passage;
    const { signal } = passage.call;
    this.#off = [passage.use.block.onCut(() => this.#cut()), onAbort(signal, () => this.#givenUp())];
  }

  send(): void {
    const { agent, sent, call, fresh } = this.#passage;
    if (call.signal?.aborted === true) return this.#givenUp();
    try {
      this.#route = agent.send(sent, this, { fresh }).route;
    } catch (error) {
      this.onError(error as Error); // undici refuses to send this request. It throws only Errors.
    }
  }

  onConnect(abort: Abort): void {
    this.#abort = abort;
    if (this.#over) return abort(leaseOver());
    if (this.#passage.use.block.ended) {
      this.#cutBy = "lease";
      return abort(leaseOver());
    }
    this.#passage.inner.onConnect?.((error) => {
      this.#cutBy ??= this.#caller();
      abort(error);
    });
  }

  onUpgrade(): void {
    this.#abort?.(new RemudaFault("wrong-options", "A request through a leased proxy cannot be upgraded."));
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, text: string): boolean {
    const { inner } = this.#passage;
    if (status < 200) return inner.onHeaders?.(status, raw, resume, text) ?? true;
    this.#headMs = performance.now() - this.#startedAt;
    const forwarded = this.#route === "forwarded";
    const failure = loginRefused({ status, forwarded });
    if (failure !== undefined) {
      this.#end(failure);
      this.#abort?.(failure);
      return false;
    }
    this.#said = factsOf({ status, forwarded, header: headerIn(raw) });
    const goOn = (): void => {
      this.#read();
      resume();
    };
    return this.#holds(inner.onHeaders?.(status, raw, goOn, text) ?? true);
  }

  onData(chunk: Buffer): boolean {
    this.#bytes += chunk.length;
    return this.#holds(this.#passage.inner.onData?.(chunk) ?? true);
  }

  onComplete(trailers: string[] | null): void {
    if (this.#over) return;
    this.#finish(undefined);
    this.#passage.inner.onComplete?.(trailers);
  }

  onError(error: Error): void {
    this.#end(error);
  }

  #cut(): void {
    if (this.#over) return;
    this.#cutBy ??= "lease";
    const abort = this.#abort;
    this.#end(leaseOver());
    abort?.(leaseOver());
  }

  /** Once it is connected, fetch itself ends the request. Before that, undici would go on connecting for it. */
  #givenUp(): void {
    this.#cutBy ??= this.#caller();
    if (this.#abort !== undefined) return;
    const { signal } = this.#passage.call;
    // Later, so that fetch sees the signal first and fails with its reason.
    setImmediate(() =>
      this.#end(signal?.reason instanceof Error ? signal.reason : new Error("The request was aborted.")),
    );
  }

  #caller(): Cut["by"] {
    const { signal } = this.#passage.call;
    return signal?.aborted === true && signal.reason?.name === "TimeoutError" ? "timeout" : "caller";
  }

  #holds(goesOn: boolean): boolean {
    if (!goesOn) this.#heldSince ??= performance.now();
    return goesOn;
  }

  #read(): void {
    if (this.#heldSince !== undefined) this.#heldMs += performance.now() - this.#heldSince;
    this.#heldSince = undefined;
  }

  #end(error: Error): void {
    if (this.#over) return;
    this.#finish(error);
    if (this.#cutBy === undefined && this.#said === undefined) {
      const { next } = verdictOf(error, { route: this.#route, headed: false });
      const unsent = this.#abort === undefined || error instanceof ProxyFailure;
      if (next !== "never" && this.#passage.onTrouble(error, { next, unsent })) return;
    }
    this.#passage.inner.onError?.(error);
  }

  #finish(error: Error | undefined): void {
    this.#over = true;
    for (const off of this.#off) off();
    const { use, sent } = this.#passage;
    const outcome = outcomeOf({
      leaseId: use.block.lease.leaseId,
      n: use.n,
      target: new URL(String(sent.origin)).hostname,
      latencyMs: this.#headMs ?? performance.now() - this.#startedAt,
      bytes: this.#bytes,
      ...this.#said,
      error,
      route: this.#route,
      cut: this.#cutBy === undefined ? undefined : this.#cutNow(this.#cutBy),
    });
    this.#passage.onOutcome(outcome);
  }

  #cutNow(by: Cut["by"]): Cut {
    const { use, call } = this.#passage;
    const now = performance.now();
    const tookMs = now - this.#startedAt;
    const wholeMs = by === "lease" ? use.block.endsAt - use.block.askedAt : now - call.startedAt;
    const ms = tookMs - (this.#headMs ?? tookMs) - this.#heldMs;
    const drips = this.#heldSince === undefined && isDripping({ bytes: this.#bytes, ms });
    return { by, tookMs, share: tookMs / Math.max(1, wholeMs), drips };
  }
}

function leaseOver(): RemudaFault {
  return new RemudaFault("lease-over", "The lease of the proxy ended before the request did.");
}
