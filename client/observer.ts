// undici knows two forms of a dispatch handler: with `onConnect` and raw headers, and with a controller. This client
// speaks the first one. undici converts between them, but does not export that.
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";

type Handler = Dispatcher.DispatchHandler;

/** The handler in the form with `onConnect`. */
export function observerOf(handler: Handler): Handler {
  return handler.onRequestStart === undefined ? handler : new Observer(handler);
}

class Controller implements Dispatcher.DispatchController {
  readonly #abort: (reason?: Error) => void;
  resumed: () => void = () => {};
  paused = false;
  reason: Error | null = null;
  rawHeaders: Buffer[] | null = null;
  rawTrailers: Buffer[] | null = null;

  constructor(abort: (reason?: Error) => void) {
    this.#abort = abort;
  }

  get aborted(): boolean {
    return this.reason !== null;
  }

  abort(reason: Error): void {
    if (this.aborted) return;
    this.reason = reason;
    this.#abort(reason);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.resumed();
  }
}

class Observer implements Handler {
  readonly #handler: Handler;
  #controller = new Controller(() => {});

  constructor(handler: Handler) {
    this.#handler = handler;
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.#controller = new Controller(abort);
    this.#handler.onRequestStart?.(this.#controller, {});
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, text: string): boolean {
    this.#controller.resumed = resume;
    this.#controller.rawHeaders = raw;
    this.#handler.onResponseStart?.(this.#controller, status, named(raw), text);
    return !this.#controller.paused;
  }

  onData(chunk: Buffer): boolean {
    this.#handler.onResponseData?.(this.#controller, chunk);
    return !this.#controller.paused;
  }

  onComplete(trailers: string[] | null): void {
    this.#controller.rawTrailers = trailers as unknown as Buffer[] | null; // As undici gives them. Its two types differ.
    this.#handler.onResponseEnd?.(this.#controller, named(trailers ?? []));
  }

  onError(error: Error): void {
    this.#handler.onResponseError?.(this.#controller, error);
  }
}

/** Alternating names and values. A name that comes again has all its values. */
function named(raw: readonly (Buffer | string)[]): IncomingHttpHeaders {
  const headers: Record<string, string | string[]> = Object.create(null);
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name, value] = [raw[i], raw[i + 1]].map((each) => each?.toString("latin1") ?? "") as [string, string];
    const known = headers[name.toLowerCase()];
    headers[name.toLowerCase()] = known === undefined ? value : [known, value].flat();
  }
  return headers;
}
