// Bounds the total size of the bodies that are in memory. A long one is held whole while it arrives, and while it is
// sent on in slices. It keeps its room until that job is over, even if its client has gone. In that case the job is
// told to stop. A few dozen at once would exceed the process's memory. A body beyond the bound is refused before any of
// it is read.
import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { type Refusal, refuse, requestBytesMax } from "../../protocol/refusal.ts";
import { onHangUp } from "./hang-up.ts";

/** Of long bodies: four of the largest. */
const longBytesMax = 128 * 1024 * 1024;
/** Of the others, while they arrive. Reports of outcomes are many and short. Long bodies take none of their room. */
const shortBytesMax = 64 * 1024 * 1024;
/**
 * One user may take this share of each bound: a client that announces bodies and sends nothing must not take all of it.
 */
const shareMax = 0.5;
/** Shorter ones are not counted: the number of connections bounds them. */
const countedFrom = 8 * 1024;
const retryAfterMs = 1000;

/** The room of one body. */
export interface Upload {
  /**
   * Runs the job that needs the body. The room is kept until it has ended.
   * @param work is told to stop when its client has gone.
   */
  job<T>(work: (stopping: AbortSignal) => Promise<T>): Promise<T>;
  /** The body has been read, and is not needed any more. */
  done(): void;
}

export class Uploads {
  #long = 0;
  #short = 0;
  readonly #byUser = new Map<string, { long: number; short: number }>();

  /** Reserves room for the body of a request. Refuses if there is no room. @param given.bytesMax of the route. */
  begin(
    headers: IncomingHttpHeaders,
    given: { bytesMax: number; user: string | undefined; socket: Socket; answer: ServerResponse },
  ): Upload | { refusal: Refusal } {
    const { bytesMax, user, ...connection } = given;
    const own = (user === undefined ? undefined : this.#byUser.get(user)) ?? { long: 0, short: 0 };
    const bytes = announced(headers, bytesMax);
    const isLong = bytes > requestBytesMax;
    if (isLong && this.#long + bytes > longBytesMax) return { refusal: full(this.#long, longBytesMax) };
    if (!isLong && bytes >= countedFrom && this.#short + bytes > shortBytesMax)
      return { refusal: full(this.#short, shortBytesMax) };
    if (isLong && own.long + bytes > longBytesMax * shareMax)
      return { refusal: full(own.long, longBytesMax * shareMax, user) };
    if (!isLong && bytes >= countedFrom && own.short + bytes > shortBytesMax * shareMax)
      return { refusal: full(own.short, shortBytesMax * shareMax, user) };
    this.#add({ isLong, user }, bytes);
    let isHeld = true;
    let isRunning = false;
    const done = (): void => {
      if (isHeld) this.#add({ isLong, user }, -bytes);
      isHeld = false;
    };
    const gone = new AbortController();
    onHangUp(connection, () => {
      gone.abort();
      if (!isRunning) done();
    });
    connection.answer.once("finish", () => {
      if (!isRunning) done();
    });
    return {
      async job(work) {
        isRunning = true;
        try {
          return await work(gone.signal);
        } finally {
          isRunning = false;
          done();
        }
      },
      done,
    };
  }

  #add({ isLong, user }: { isLong: boolean; user: string | undefined }, bytes: number): void {
    if (isLong) this.#long += bytes;
    else this.#short += bytes;
    if (user === undefined || bytes === 0) return;
    const own = this.#byUser.get(user) ?? { long: 0, short: 0 };
    if (isLong) own.long += bytes;
    else own.short += bytes;
    if (own.long === 0 && own.short === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, own);
  }
}

function full(bytes: number, bytesMax: number, user?: string): Refusal {
  const from = user === undefined ? "" : ` from ${user}`;
  const message = `Bodies of ${bytes} bytes${from} are being received, and at most ${bytesMax} are allowed at once. Send this again shortly, or in parts.`;
  return refuse("overloaded", message, { retryAfterMs });
}

/** A client that does not announce the body's length may send the longest one. */
function announced(headers: IncomingHttpHeaders, bytesMax: number): number {
  if (headers["transfer-encoding"] !== undefined) return bytesMax;
  const bytes = Number(headers["content-length"] ?? 0);
  return bytes > bytesMax ? 0 : bytes; // Longer than allowed: it is refused by its length, and not read.
}
