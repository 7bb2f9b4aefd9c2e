// A request's body that can be sent again on another connection. fetch gives its body as chunks that can be read once.
// The first 64 KiB are kept, so that a small body can be repeated.
import type { Dispatcher } from "undici";

const keptBytesMax = 64 * 1024;

type Body = Dispatcher.DispatchOptions["body"];

export interface Replay {
  /** The body that undici sends. Each try reads it from the start. */
  readonly body: Body;
  /** Whether another try can send all of it: nothing of it was read yet, or all that was read is kept. */
  readonly repeatable: boolean;
  /** No try will read it any more. */
  close(): void;
}

const close = (): void => {};

export function replayOf(body: Body): Replay {
  if (body === null || body === undefined || typeof body === "string" || body instanceof Uint8Array)
    return { body, repeatable: true, close };
  if (!(Symbol.asyncIterator in body)) return { body, repeatable: false, close };
  return new KeptBody(body as AsyncIterable<Uint8Array>); // fetch gives bytes.
}

class KeptBody implements Replay, AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  #rest: AsyncIterator<Uint8Array> | undefined;
  /** The chunk after the kept ones, while it is awaited. If the source failed, it stays. */
  #next: Promise<IteratorResult<Uint8Array>> | undefined;
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  repeatable = true;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  get body(): Body {
    return this as unknown as Body; // undici takes anything that can be iterated; its type says otherwise.
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let at = 0; ; ) {
      for (; at < this.#kept.length; at++) yield this.#kept[at]!; // It is there.
      const next = await this.#read();
      if (next.done === true) return;
      if (at === this.#kept.length) yield next.value;
    }
  }

  close(): void {
    this.#rest?.return?.().catch(() => {}); // The request has ended, so its error is known.
  }

  /** Once for all tries. A try that has failed may still wait for a chunk, and the next try must get that chunk too. */
  #read(): Promise<IteratorResult<Uint8Array>> {
    this.#rest ??= this.#source[Symbol.asyncIterator]();
    this.#next ??= this.#rest.next().then((next) => {
      this.#next = undefined;
      if (next.done !== true) this.#keep(next.value);
      return next;
    });
    return this.#next;
  }

  /** Keeps the chunk that exceeds the bound, too: a try that began before it may not have read it yet. */
  #keep(chunk: Uint8Array): void {
    if (!this.repeatable) return;
    this.#kept.push(chunk);
    this.#keptBytes += chunk.byteLength;
    this.repeatable = this.#keptBytes <= keptBytesMax;
  }
}
