// A block: one lease, used up request by request. It numbers the uses, knows by the monotonic clock when its time is
// over, and cuts then what is still under way. Invariant: no use is given, and no request begun, after `endsAt`.
import type { LeaseReply } from "../protocol/wire.ts";

/** One request's right to leave. */
export interface Use {
  block: Block;
  n: number;
  /** Its request has ended. Once. */
  end(): void;
}

/** A request that would have to be cut at once is not worth a use: the last tenth of a lease, at most a second. */
const lastMsMax = 1000;
const lastShare = 10;
/** Timers may fire a little late; early is harmless. */
const cutEarlyMs = 2;

export class Block {
  readonly lease: LeaseReply;
  /** `performance.now()` at which the request was sent. */
  readonly askedAt: number;
  readonly endsAt: number;
  taken = 0;
  inFlight = 0;
  /** Failures whose report is not answered yet: the proxy may be about to rest. */
  suspicions = 0;
  stopped = false;
  readonly #cuts = new Set<() => void>();
  readonly #startBy: number;
  readonly #timer: NodeJS.Timeout;
  readonly #onChange: () => void;

  /** @param onChange a request of it has ended, or a suspicion. */
  constructor(lease: LeaseReply, askedAt: number, onChange: (block: Block) => void = () => {}) {
    this.#onChange = () => onChange(this);
    this.lease = lease;
    this.askedAt = askedAt;
    this.endsAt = askedAt + lease.leftMs;
    const last = this.endsAt - Math.min(lastMsMax, lease.leftMs / lastShare);
    // By the service's clock the request came at `expiresAt - leftMs`; no use begins with a token that has run out.
    const tokenEnd = lease.token?.expiresAt ?? Infinity;
    this.#startBy = Math.min(last, askedAt + tokenEnd - (lease.expiresAt - lease.leftMs));
    this.#timer = setTimeout(() => this.#cut(), Math.max(0, this.endsAt - performance.now() - cutEarlyMs)).unref();
  }

  get spent(): boolean {
    return this.taken >= this.lease.uses;
  }

  /** No use will be taken any more. */
  get over(): boolean {
    return this.stopped || this.spent || performance.now() >= this.#startBy;
  }

  get ended(): boolean {
    return performance.now() >= this.endsAt;
  }

  /** @returns undefined when it has none to give. */
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

  /** Gives no use until it is known whether its proxy rests now. */
  suspectUntil(known: Promise<void>): void {
    this.suspicions += 1;
    void known.then(() => {
      this.suspicions -= 1;
      this.#onChange();
    });
  }

  /** Calls back at the end of the lease; the returned function takes that back. */
  onCut(callback: () => void): () => void {
    this.#cuts.add(callback);
    return () => this.#cuts.delete(callback);
  }

  /** The lease has been given back, or all its uses are made: no timer is needed any more. */
  done(): void {
    clearTimeout(this.#timer);
  }

  #cut(): void {
    this.stopped = true;
    for (const cut of [...this.#cuts]) cut();
    this.#cuts.clear();
  }
}
