// A request's body that can be sent again on another connection. fetch gives its body as chunks that can be read once.
// The first 64 KiB are kept, so that a small body can be repeated.
import type { Dispatcher } from "undici";

const keptBytesMax = 64 * 1024;

type Body = Dispatcher.DispatchOptions["body"];

export interface Replay {
  /** What undici sends. Each try reads it from the start. */
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
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  repeatable = true;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  get body(): Body {
    return this as unknown as Body; // undici takes anything that can be iterated; its type says otherwise.
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    yield* this.#kept.slice();
    this.#rest ??= this.#source[Symbol.asyncIterator]();
    for (;;) {
      const next = await this.#rest.next();
      if (next.done === true) return;
      this.#keep(next.value);
      yield next.value;
    }
  }

  close(): void {
    this.#rest?.return?.().catch(() => {}); // The request has ended, so its error is known.
  }

  #keep(chunk: Uint8Array): void {
    if (!this.repeatable) return;
    this.#keptBytes += chunk.byteLength;
    this.repeatable = this.#keptBytes <= keptBytesMax;
    if (this.repeatable) this.#kept.push(chunk);
    else this.#kept = [];
  }
}
