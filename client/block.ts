// A block: one lease, used up request by request. It numbers the uses, and knows by the monotonic clock when the lease
// ends. Then it cuts requests that are still under way. Invariant: after `endsAt` no use is given and no request
// begins.
import type { LeaseReply } from "../protocol/wire.ts";

/** The right to send one request. */
export interface Use {
  block: Block;
  n: number;
  /** Its request has ended. Call once. */
  end(): void;
}

/**
 * A request that would be cut almost at once is not worth a use. So the last tenth of a lease, at most a second, is not
 * used.
 */
const lastMsMax = 1000;
const lastShare = 10;
/** Timers may fire a little late; early is harmless. */
const cutEarlyMs = 2;

const quickMs = 1000;

export class Block {
  readonly lease: LeaseReply;
  /** `performance.now()` at which the request was sent. */
  readonly askedAt: number;
  endsAt: number;
  taken = 0;
  inFlight = 0;
  /** Failures whose report is not answered yet: the proxy may be about to rest. */
  suspicions = 0;
  stopped = false;
  readonly #begunAt = performance.now();
  readonly #cuts = new Set<() => void>();
  #startBy: number;
  #timer: NodeJS.Timeout;
  readonly #onChange: () => void;

  /** @param onChange called when one of its requests, or a suspicion, has ended. */
  constructor(lease: LeaseReply, askedAt: number, onChange: (block: Block) => void = () => {}) {
    this.#onChange = () => onChange(this);
    this.lease = lease;
    this.askedAt = askedAt;
    this.endsAt = askedAt + lease.leftMs;
    this.#startBy = this.#startByOf(lease.leftMs);
    this.#timer = this.#cutLater();
  }

  get spent(): boolean {
    return this.taken >= this.lease.uses;
  }

  /** No use can be taken any more. */
  get over(): boolean {
    return this.stopped || this.spent || performance.now() >= this.#startBy;
  }

  /** Many uses in one block are worth it only if they are used up in a moment: others cannot have them meanwhile. */
  get isQuick(): boolean {
    return performance.now() - this.#begunAt < quickMs;
  }

  get ended(): boolean {
    return performance.now() >= this.endsAt;
  }

  /** @returns undefined if there is no use to give. */
  take(): Use | undefined {
    if (this.over) return undefined;
    this.taken += 1;
    this.inFlight += 1;
    const end = (): void => {
      this.inFlight -= 1;
      this.#onChange();
    };
    return { block: this, n: this.taken, end };
  }

  /** Gives no use until it is known whether the proxy rests now. */
  suspectUntil(known: Promise<void>): void {
    this.suspicions += 1;
    void known.then(() => {
      this.suspicions -= 1;
      this.#onChange();
    });
  }

  /** The lease has a new end. @param askedAt `performance.now()` at which the renewal was sent. */
  renewed(leftMs: number, askedAt: number): void {
    if (this.ended) return;
    this.endsAt = Math.max(this.endsAt, askedAt + leftMs);
    this.#startBy = this.#startByOf(leftMs);
    clearTimeout(this.#timer);
    this.#timer = this.#cutLater();
  }

  /** Calls back at the end of the lease. The returned function cancels that. */
  onCut(callback: () => void): () => void {
    this.#cuts.add(callback);
    return () => this.#cuts.delete(callback);
  }

  /** The lease was released, or all its uses are made: no timer is needed any more. */
  done(): void {
    clearTimeout(this.#timer);
  }

  #startByOf(leftMs: number): number {
    const { token, expiresAt, leftMs: firstLeftMs } = this.lease;
    const last = this.endsAt - Math.min(lastMsMax, leftMs / lastShare);
    // By the service's clock the request arrived at `expiresAt - leftMs`. No use begins with an expired token.
    return Math.min(last, this.askedAt + (token?.expiresAt ?? Infinity) - (expiresAt - firstLeftMs));
  }

  #cutLater(): NodeJS.Timeout {
    return setTimeout(() => this.#cut(), Math.max(0, this.endsAt - performance.now() - cutEarlyMs)).unref();
  }

  #cut(): void {
    this.stopped = true;
    for (const cut of [...this.#cuts]) cut();
    this.#cuts.clear();
  }
}
