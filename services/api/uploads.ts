// Bounds the total size of long bodies. Each is held whole while it arrives and while it is sent on in slices. A few
// dozen at once would exceed the process's memory. A body beyond the bound is refused before any of it is read.
import type { IncomingHttpHeaders } from "node:http";
import { type Refusal, refuse, requestBytesMax } from "../../protocol/refusal.ts";

/** Four of the largest. Bodies within every route's limit are not counted: reports of outcomes are many, and short. */
const uploadsBytesMax = 128 * 1024 * 1024;
const retryAfterMs = 1000;

export class Uploads {
  #bytes = 0;

  /** Reserves room for a body of at most `bytesMax` until `done` is called; or says why there is none. */
  begin(headers: IncomingHttpHeaders, bytesMax: number): { done: () => void } | { refusal: Refusal } {
    const bytes = announced(headers, bytesMax);
    if (bytes <= requestBytesMax) return { done: () => {} };
    if (this.#bytes + bytes > uploadsBytesMax) {
      const message = `Lists of ${this.#bytes} bytes are being received, and at most ${uploadsBytesMax} are allowed at once. Send this list again shortly, or in parts of at most ${requestBytesMax} bytes.`;
      return { refusal: refuse("overloaded", message, { retryAfterMs }) };
    }
    this.#bytes += bytes;
    const done = (): void => {
      this.#bytes -= bytes;
    };
    return { done };
  }
}

/** A client that does not announce the body's length may send the longest one. */
function announced(headers: IncomingHttpHeaders, bytesMax: number): number {
  if (headers["transfer-encoding"] !== undefined) return bytesMax;
  const bytes = Number(headers["content-length"] ?? 0);
  return bytes > bytesMax ? 0 : bytes; // Longer than allowed: it is refused by its length, and not read.
}
