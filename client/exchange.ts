// One request on its way: one use. It stands between undici and the caller and observes the traffic. It lets nothing
// leave after the lease's end, and cuts the request there. When the body has ended, it reports the outcome once. This
// also holds for a request that is cancelled, or whose body is never read: the lease's end ends it.
//
// It uses undici's older form of observers (onConnect, onHeaders, …), because undici's fetch uses that form, and the
// newer one has no 1xx.
import type { Dispatcher } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import type { ProxyAgent } from "../transport/agents.ts";
import { isProxyTrouble, outcomeOf } from "../transport/classify.ts";
import { factsOf, type HeadFacts, headerIn, loginRefused } from "../transport/head.ts";
import type { Use } from "./block.ts";
import { RemudaFault } from "./fault.ts";

export interface Passage {
  use: Use;
  agent: ProxyAgent;
  sent: Dispatcher.DispatchOptions;
  /** The caller's own dispatch handler. */
  inner: Dispatcher.DispatchHandler;
  /** Called once, with the outcome, before `inner` is notified of an end. */
  onOutcome(outcome: Outcome): void;
  /** The proxy failed before any answer. @returns true: another proxy is tried, and `inner` is not notified. */
  onTrouble(error: Error): boolean;
}

type Abort = (error?: Error) => void;

export class Exchange implements Dispatcher.DispatchHandler {
  readonly #passage: Passage;
  readonly #startedAt = performance.now();
  readonly #offCut: () => void;
  #forwarded = false;
  #abort: Abort | undefined;
  #cutBy: "caller" | "lease" | undefined;
  #said: HeadFacts | undefined;
  #headMs: number | undefined;
  #bytes = 0;
  #over = false;

  constructor(passage: Passage) {
    this.#passage = passage;
    this.#offCut = passage.use.block.onCut(() => this.#cut());
  }

  send(): void {
    const { agent, sent } = this.#passage;
    try {
      this.#forwarded = agent.send(sent, this).forwarded;
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
      this.#cutBy ??= "caller";
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
    const failure = loginRefused({ status, forwarded: this.#forwarded });
    if (failure !== undefined) {
      this.#end(failure);
      this.#abort?.(failure);
      return false;
    }
    this.#said = factsOf({ status, forwarded: this.#forwarded, header: headerIn(raw) });
    return inner.onHeaders?.(status, raw, resume, text) ?? true;
  }

  onData(chunk: Buffer): boolean {
    this.#bytes += chunk.length;
    return this.#passage.inner.onData?.(chunk) ?? true;
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

  #end(error: Error): void {
    if (this.#over) return;
    this.#finish(error);
    const mayTryAgain = this.#cutBy === undefined && this.#said === undefined && isProxyTrouble(error);
    if (mayTryAgain && this.#passage.onTrouble(error)) return;
    this.#passage.inner.onError?.(error);
  }

  #finish(error: Error | undefined): void {
    this.#over = true;
    this.#offCut();
    const { use, sent } = this.#passage;
    const { lease, askedAt, endsAt } = use.block;
    const tookMs = performance.now() - this.#startedAt;
    const outcome = outcomeOf({
      leaseId: lease.leaseId,
      n: use.n,
      target: new URL(String(sent.origin)).hostname,
      latencyMs: this.#headMs ?? tookMs,
      bytes: this.#bytes,
      ...this.#said,
      error,
      cutBy: this.#cutBy,
      share: tookMs / Math.max(1, endsAt - askedAt),
    });
    this.#passage.onOutcome(outcome);
  }
}

function leaseOver(): RemudaFault {
  return new RemudaFault("lease-over", "The lease of the proxy ended before the request did.");
}
