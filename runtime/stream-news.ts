// Tells the followers of a stream when it may have grown. All of them share one question to the stream's leader, which
// is asked again and again while any of them waits. So a stream at rest costs the same whether one or a thousand follow
// it. It is a question, not a push, so a follower that is busy cannot be flooded.
import type { Bus } from "./bus.ts";
import { Fault } from "./fault.ts";
import { streamInfo } from "./jetstream-api.ts";

/** The growth of a stream, as a follower sees it. */
export interface News {
  /** Changes when the stream does. Note it before reading, then wait for news after it. */
  readonly mark: string;
  /** Sequence of the stream's last message; 0 before the first look. */
  readonly lastSeq: number;
  /**
   * Resolves when the stream has changed since `mark`, or when aborted.
   * @throws Fault "retry-later", or an error of the call, if the broker is away.
   */
  after(mark: string, signal?: AbortSignal): Promise<void>;
}

interface Waiting {
  mark: string;
  since: number;
  isUrgent: () => boolean;
  resolve: () => void;
  reject: (cause: unknown) => void;
}

/** A follower reads when it is told, which takes about this long. So the more followers, the longer the pause. */
const msPerFollower = 0.5;
/** The longest pause while no follower is urgent. */
const restPollMs = 200;
/** Followers without urgency look this rarely, even in a stream that changes all the time. */
const restMsMin = 500;
const restMsPerFollower = 2.5;

export class StreamNews implements News {
  mark = "";
  lastSeq = 0;
  readonly #bus: Bus;
  readonly #stream: string;
  readonly #pollMs: { min: number; max: number };
  readonly #waiting = new Set<Waiting>();
  #isPolling = false;

  /** @param pollMs how long a message may go unnoticed: at least while the stream changes, at most while it rests. */
  constructor(bus: Bus, stream: string, pollMs = { min: 10, max: 50 }) {
    this.#bus = bus;
    this.#stream = stream;
    this.#pollMs = pollMs;
  }

  /** @param isUrgent asked again at every look. While it says no, the follower is told later than others. */
  async after(mark: string, signal?: AbortSignal, isUrgent: () => boolean = () => true): Promise<void> {
    if (signal?.aborted === true) return;
    const down = this.#bus.whenDown();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => {}); // The connection may go down first.
    const waiting: Waiting = { mark, since: performance.now(), isUrgent, resolve, reject };
    this.#waiting.add(waiting);
    const stop = (): void => resolve();
    signal?.addEventListener("abort", stop, { once: true });
    if (!this.#isPolling) void this.#poll();
    try {
      // A broker that goes away may come back without its last messages.
      await Promise.race([promise, down.promise]);
    } finally {
      down.cancel();
      this.#waiting.delete(waiting);
      signal?.removeEventListener("abort", stop);
    }
  }

  /** Ends when no follower waits any more. */
  async #poll(): Promise<void> {
    this.#isPolling = true;
    const { min } = this.#pollMs;
    let pauseMs = min;
    while (this.#waiting.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      let told = 0;
      try {
        await this.#look();
        told = this.#tell();
      } catch (error) {
        for (const { reject } of this.#waiting) reject(error);
        this.#waiting.clear();
      }
      pauseMs = told > 0 ? min + told * msPerFollower : Math.min(this.#pauseMsMax(), pauseMs * 2);
    }
    this.#isPolling = false;
  }

  #pauseMsMax(): number {
    for (const { isUrgent } of this.#waiting) if (isUrgent()) return this.#pollMs.max;
    return restPollMs;
  }

  async #look(): Promise<void> {
    const { created, state } = await streamInfo(this.#bus, this.#stream);
    this.lastSeq = state.last_seq;
    this.mark = `${created ?? ""} ${state.last_seq}`;
  }

  /** Returns how many were told. */
  #tell(): number {
    const now = performance.now();
    const restMs = Math.max(restMsMin, this.#waiting.size * restMsPerFollower);
    let told = 0;
    for (const waiting of this.#waiting) {
      if (waiting.mark === this.mark) continue;
      if (now - waiting.since < restMs && !waiting.isUrgent()) continue;
      told++;
      this.#waiting.delete(waiting);
      waiting.resolve();
    }
    return told;
  }
}

/** The stream ends before a message that was read: it was made again, or its broker has lost messages. */
export function wentBack(stream: string): Fault {
  return new Fault("retry-later", `The stream ${stream} ends before the last message that was read of it.`);
}
