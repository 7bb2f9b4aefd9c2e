// The blocks of one kind of request (pool, labels, schemes, session, …), and the requests that wait for a use of them.
// A block is used up before the next is begun, except for parallel requests: beyond `parallelMax` requests on one
// lease, another lease is requested. First come, first served. Nothing here knows HTTP.

import type { LeaseReply } from "../protocol/wire.ts";
import { Block, type Use } from "./block.ts";
import { RemudaFault, RemudaRefusal } from "./fault.ts";
import { onAbort } from "./signals.ts";
import { Size } from "./size.ts";
import { TokenKept } from "./token.ts";

/** Lease requests under way at the same time, per kind of request. */
const asksMax = 8;
/** If a bound here kept us from sending a lease request, the waiting request fails this long after its time. */
const lateMs = 250;
/** `retryAfterMs` of a refusal if no known event will free a proxy. */
const unknownMs = 60_000;
/** How many rejected tokens are remembered, because leases that are still on their way may carry them. */
const rejectedMax = 100;

export interface BlocksOptions {
  /** Sends a lease request. @param exclude in addition to the request's own exclusions. */
  ask(request: { uses: number; waitMs: number; exclude: string[] }): Promise<{ lease: LeaseReply; askedAt: number }>;
  /** The block will not be used any more. */
  giveBack(block: Block): Promise<void>;
  /** Reserves a place for one more lease. If it returns false, `pump` is called once a place is free. */
  reserve(): boolean;
  free(): void;
  parallelMax: number;
  usesMax: number;
  /**
   * The most uses while they follow each other quickly (size.ts). A block that is not used up in a moment, and has more
   * than `usesMax` left, is given back. Absent: `usesMax`.
   */
  quickUsesMax?: number;
  idleMs: number;
  /** While the service is away, a lease request is retried for this long beyond its `waitMs`. */
  retryMs: number;
  /** The number of requests that wait here has changed. */
  onWaiting(change: 1 | -1): void;
}

export interface Taking {
  /** Ids of proxies that have already failed this request. */
  avoid: ReadonlySet<string>;
  waitMs: number;
  signal?: AbortSignal | undefined;
  /** The id of a token that was just rejected: a lease that has it all the same is of no use. */
  notToken?: string | undefined;
}

interface Waiter {
  avoid: ReadonlySet<string>;
  notToken: string | undefined;
  deadline: number;
  /** For a waiter that avoids proxies: its own lease request is under way. */
  asked: boolean;
  /** It is known that waiting for another proxy may help. */
  waits: boolean;
  grant(use: Use): void;
  refuse(error: unknown): void;
}

export class Blocks {
  readonly #options: BlocksOptions;
  readonly #size: Size;
  readonly #waiters = new Set<Waiter>();
  /** Waiters that avoid proxies. Each is served by its own lease request, or by a block that happens to fit. */
  readonly #avoiding = new Set<Waiter>();
  /** Blocks with failures whose report is not answered yet. */
  readonly #suspects = new Set<Block>();
  #asking: NodeJS.Immediate | undefined;
  readonly #open = new Map<string, Block>();
  readonly #idle = new Map<Block, NodeJS.Timeout>();
  readonly #ends = new Map<Block, NodeJS.Timeout>();
  #asks = 0;
  /** Uses that the lease requests under way may bring for parallel requests. */
  #expected = 0;
  /** Tokens that a target rejected, and when that became known. */
  readonly #rejected = new Map<string, number>();
  #closed = false;

  constructor(options: BlocksOptions) {
    this.#options = options;
    this.#size = new Size(options.usesMax, options.quickUsesMax);
  }

  /** @throws RemudaRefusal; RemudaFault; the signal's reason. */
  take({ avoid, waitMs, signal, notToken }: Taking): Promise<Use> {
    signal?.throwIfAborted();
    if (
      notToken !== undefined &&
      [...this.#open.values()].some((each) => !each.over && each.lease.token?.tokenId === notToken)
    )
      return Promise.reject(new TokenKept());
    const now = this.#waiters.size === 0 ? this.#fromOpen(avoid) : undefined;
    if (now !== undefined) return Promise.resolve(now);
    const queue = avoid.size === 0 ? this.#waiters : this.#avoiding;
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        if (queue.delete(waiter)) this.#options.onWaiting(-1);
        clearTimeout(timer);
        off();
      };
      const waiter: Waiter = {
        avoid,
        notToken,
        deadline: performance.now() + waitMs,
        asked: false,
        waits: false,
        grant: (use) => {
          leave();
          resolve(use);
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const off = onAbort(signal, () => waiter.refuse(signal?.reason));
      const late = (): void => waiter.refuse(noUse(waitMs, this.#waiters.size));
      let timer = setTimeout(
        () => {
          // A lease request that is still under way will report the reason itself, such as that no service answers.
          if (this.#asks === 0) late();
          else timer = setTimeout(late, this.#options.retryMs);
        },
        waitMs + lateMs + 1000,
      );
      queue.add(waiter);
      this.#options.onWaiting(1);
      this.pump();
    });
  }

  /** The proxy of this lease has begun to rest. */
  stop(leaseId: string): void {
    const block = this.#open.get(leaseId);
    if (block === undefined) return;
    block.stopped = true;
    this.#settle(block);
    this.pump();
  }

  /** Targets reject this token from now on. Leases that were given with it are useless, even those on their way. */
  stopToken(tokenId: string): void {
    this.#rejected.set(tokenId, performance.now());
    const [oldest] = this.#rejected.keys();
    if (this.#rejected.size > rejectedMax && oldest !== undefined) this.#rejected.delete(oldest);
    for (const block of [...this.#open.values()]) {
      if (block.lease.token?.tokenId !== tokenId) continue;
      block.stopped = true;
      this.#settle(block);
    }
    this.pump();
  }

  /** Gives waiting requests the uses that blocks have left. For the remaining requests, more leases are requested. */
  pump(): void {
    for (const waiter of this.#avoiding) {
      const use = this.#fromOpen(waiter.avoid);
      if (use !== undefined) waiter.grant(use);
    }
    for (const waiter of this.#waiters) {
      const use = this.#fromOpen(waiter.avoid);
      if (use === undefined) break; // Later waiters would get none either.
      waiter.grant(use);
    }
    if (this.#waiters.size + this.#avoiding.size === 0) return;
    // By then all requests of this turn are known. One lease request for many is better than many for one.
    this.#asking ??= setImmediate(() => {
      this.#asking = undefined;
      this.#askForMore();
    });
  }

  /** There is neither a lease nor a request here, only the learned size. */
  get empty(): boolean {
    return this.#waiters.size + this.#avoiding.size + this.#open.size + this.#asks === 0;
  }

  /** Waiting requests fail. Unused leases are released at once, the others when their requests have ended. */
  close(error: Error): void {
    this.#closed = true;
    for (const waiter of [...this.#avoiding, ...this.#waiters]) waiter.refuse(error);
    for (const block of [...this.#open.values()]) {
      block.stopped = true;
      this.#settle(block);
    }
  }

  #fromOpen(avoid: ReadonlySet<string>): Use | undefined {
    for (const block of this.#open.values()) {
      // First, because it costs least, and most blocks are busy where there are many.
      if (block.inFlight >= this.#options.parallelMax) continue;
      if (block.over) this.#settle(block);
      else if (block.suspicions === 0 && !avoid.has(block.lease.proxyId)) {
        clearTimeout(this.#idle.get(block));
        const use = block.take();
        if (block.spent) {
          this.#size.usedUp(block.lease.uses);
          this.#leave(block);
        }
        return use;
      }
    }
    return undefined;
  }

  #askForMore(): void {
    if (this.#closed) return;
    for (const waiter of this.#avoiding) if (!waiter.asked) this.#ask(waiter, 1);
    // A lease request sent before the report of a failure has arrived could bring the same proxy again.
    if (this.#suspects.size > 0) return;
    const [first] = this.#waiters;
    while (first !== undefined && this.#waiters.size > this.#expected && this.#asks < asksMax) {
      const share = Math.ceil((this.#waiters.size - this.#expected) / (asksMax - this.#asks));
      if (!this.#ask(first, this.#size.next(share))) return;
    }
  }

  /** @returns false if there is no place for another lease now. */
  #ask(first: Waiter, uses: number): boolean {
    if (this.#asks >= asksMax || !this.#options.reserve()) return false;
    const special = first.avoid.size > 0;
    const expected = special ? 0 : Math.min(uses, this.#options.parallelMax);
    const leftMs = Math.round(Math.min(60_000, Math.max(0, first.deadline - performance.now())));
    // Without waiting first, to find out whether there is another proxy at all.
    const waitMs = special && !first.waits ? 0 : leftMs;
    this.#asks += 1;
    this.#expected += expected;
    if (special) first.asked = true;
    const answered = (): void => {
      this.#asks -= 1;
      this.#expected -= expected;
      first.asked = false;
    };
    void this.#options
      .ask({ uses, waitMs, exclude: [...first.avoid] })
      .then(
        ({ lease, askedAt }) => {
          answered();
          if (!special) this.#size.granted(lease.uses);
          this.#begin(new Block(lease, askedAt, (block) => this.#changed(block)));
        },
        (error: unknown) => {
          answered();
          this.#options.free();
          this.#refused(error, uses, first);
        },
      )
      .then(() => this.pump());
    return true;
  }

  #refused(error: unknown, uses: number, first: Waiter): void {
    if (error instanceof RemudaRefusal && error.code === "invalid-request" && error.field === "uses" && uses > 1)
      return this.#size.refused(uses);
    if (first.avoid.size > 0) {
      if (first.waits || !isWorthWaiting(error, first.deadline - performance.now())) return first.refuse(error);
      first.waits = true;
      return;
    }
    const exhausted =
      error instanceof RemudaRefusal && (error.code === "pool-exhausted" || error.code === "token-unavailable");
    for (const waiter of [...this.#waiters]) {
      if (!exhausted || waiter === first || waiter.deadline <= performance.now() + lateMs) waiter.refuse(error);
    }
  }

  #begin(block: Block): void {
    this.#open.set(block.lease.leaseId, block);
    // A lease that was requested later may carry the token all the same: then the service has kept it.
    const rejectedAt = this.#rejected.get(block.lease.token?.tokenId ?? "") ?? Number.NEGATIVE_INFINITY;
    if (this.#closed || block.askedAt <= rejectedAt) block.stopped = true;
    else
      for (const waiter of [...this.#waiters, ...this.#avoiding])
        if (waiter.notToken !== undefined && block.lease.token?.tokenId === waiter.notToken)
          waiter.refuse(new TokenKept());
    const endMs = Math.max(0, block.endsAt - performance.now());
    this.#ends.set(block, setTimeout(() => this.#settle(block), endMs).unref());
    this.pump();
    this.#settle(block);
  }

  #changed(block: Block): void {
    if (block.suspicions > 0) this.#suspects.add(block);
    else this.#suspects.delete(block);
    if (block.spent && block.inFlight === 0 && block.suspicions === 0) {
      block.done();
      this.#options.free();
    }
    this.#settle(block);
    this.pump();
  }

  /** For an idle block: it waits a moment for the next request, and is released when it is over. */
  #settle(block: Block): void {
    if (!this.#open.has(block.lease.leaseId) || block.inFlight > 0 || block.suspicions > 0) return;
    clearTimeout(this.#idle.get(block));
    const isTooLarge = block.lease.uses - block.taken > this.#options.usesMax;
    if (isTooLarge && !block.isQuick) block.stopped = true;
    if (block.over) return this.#leave(block);
    this.#idle.set(
      block,
      setTimeout(() => {
        if (block.inFlight > 0) return;
        block.stopped = true;
        this.#settle(block);
      }, this.#options.idleMs),
    );
  }

  /** Once per block. */
  #leave(block: Block): void {
    this.#open.delete(block.lease.leaseId);
    clearTimeout(this.#idle.get(block));
    clearTimeout(this.#ends.get(block));
    this.#idle.delete(block);
    this.#ends.delete(block);
    if (!block.spent) {
      block.done();
      this.#size.givenBack({ used: block.taken });
      void this.#options.giveBack(block).finally(() => this.#options.free());
    }
  }
}

/**
 * Whether a refused request for another proxy may be granted in time. If all others were excluded or at rest for
 * longer, its caller would wait for nothing. Leases may be given back early, and rests do not end early.
 */
function isWorthWaiting(error: unknown, leftMs: number): boolean {
  if (!(error instanceof RemudaRefusal) || error.limitedBy === undefined) return false;
  const { limitedBy, retryAfterMs = unknownMs } = error;
  if (retryAfterMs <= leftMs) return true;
  return retryAfterMs !== unknownMs && limitedBy.concurrency + (limitedBy.holder ?? 0) > 0;
}

function noUse(waitMs: number, waiting: number): RemudaFault {
  return new RemudaFault(
    "queue-full",
    `No use of a proxy became available within ${waitMs} ms; ${waiting} requests wait in this client (fetch.leasesMax, fetch.parallelMax).`,
  );
}
