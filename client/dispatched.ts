// A dispatcher for tools that bring their own HTTP: Node's `fetch`, undici's `request`, interceptors. Each request that
// they dispatch is a call of its own. It can be aborted from its beginning, also while it waits for a lease, and it is
// aborted when the tool says so, not when the tool's signal fires.
import { Dispatcher } from "undici";
import { RemudaFault } from "./fault.ts";
import { observerOf } from "./observer.ts";

/** For undici, and for Node's own `fetch`, whose types come with another version of undici. */
export type AnyDispatcher = Dispatcher &
  (globalThis.RequestInit extends { dispatcher?: infer Known } ? NonNullable<Known> : unknown);

type Abort = (reason?: Error) => void;
type Handler = Dispatcher.DispatchHandler;

export class DispatchedRequests extends Dispatcher {
  readonly #through: (signal: AbortSignal) => Dispatcher;

  /** @param through the dispatcher of one call, which the signal ends. */
  constructor(through: (signal: AbortSignal) => Dispatcher) {
    super();
    this.#through = through;
  }

  override dispatch(sent: Dispatcher.DispatchOptions, handler: Handler): boolean {
    const call = new Call(observerOf(handler));
    call.begin();
    const problem = problemOf(sent);
    if (problem === undefined) return this.#through(call.signal).dispatch(sent, call);
    call.onError(new RemudaFault("wrong-options", problem));
    return true;
  }

  /** Nothing is kept here: the leases and connections are the client's. */
  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | void {
    if (callback === undefined) return Promise.resolve();
    queueMicrotask(callback);
  }

  override destroy(...given: unknown[]): Promise<void> {
    const callback = given.at(-1);
    if (typeof callback === "function") queueMicrotask(() => callback());
    return Promise.resolve();
  }
}

/** Before a request takes a lease. undici itself checks the remainder, when it sends the request. */
function problemOf({ method, upgrade, origin }: Dispatcher.DispatchOptions): string | undefined {
  if (method === "CONNECT" || upgrade) return "A request through a leased proxy cannot be upgraded.";
  const isWeb = URL.canParse(String(origin)) && /^https?:$/.test(new URL(String(origin)).protocol);
  return isWeb ? undefined : "origin: must be that of an http or https URL.";
}

class Call implements Handler {
  readonly #observer: Handler;
  readonly #given = new AbortController();
  /** Of the latest try. */
  #abort: Abort | undefined;

  constructor(observer: Handler) {
    this.#observer = observer;
  }

  get signal(): AbortSignal {
    return this.#given.signal;
  }

  /** Once for all tries. */
  begin(): void {
    this.#observer.onConnect?.((reason = new DOMException("The request was aborted.", "AbortError")) => {
      this.#given.abort(reason);
      this.#abort?.(reason);
    });
  }

  onConnect(abort: Abort): void {
    this.#abort = abort;
    if (this.signal.aborted) abort(this.signal.reason);
  }

  onHeaders(...head: Parameters<NonNullable<Handler["onHeaders"]>>): boolean {
    return this.#observer.onHeaders?.(...head) ?? true;
  }

  onData(chunk: Buffer): boolean {
    return this.#observer.onData?.(chunk) ?? true;
  }

  onComplete(trailers: string[] | null): void {
    this.#observer.onComplete?.(trailers);
  }

  onError(error: Error): void {
    this.#observer.onError?.(error);
  }
}
