// The uses of one user's leases: taken from blocks (client/kinds.ts), renewed while they are under way, and reported. A
// lease serves one request or tunnel at a time, so that the target never sees more connections than the pool's
// concurrency.
import { randomUUID } from "node:crypto";
import { type Ask, askThrough } from "../../client/ask.ts";
import { Block, type Use } from "../../client/block.ts";
import type { Taking } from "../../client/blocks.ts";
import { RemudaFault, RemudaRefusal } from "../../client/fault.ts";
import { type FetchLease, Kinds } from "../../client/kinds.ts";
import { Outcomes } from "../../client/outcomes.ts";
import { orAborted, type Port } from "../../client/port.ts";
import type { LeaseReply, LeaseRequest, Outcome, ReleaseReply } from "../../protocol/wire.ts";
import { mayRest } from "../../transport/classify.ts";

const retryMs = 2000;
/** The pause between two requests for one more use of a given proxy. Such a request cannot wait at the service. */
const pollMsMax = 500;
const pollMsMin = 20;
/** A lease is renewed when this share of its time is over. */
const renewShare = 0.5;

const bounds = {
  ...{ waitMs: 10_000, retries: 2, connectTimeoutMs: 10_000, headersTimeoutMs: 60_000, bodyTimeoutMs: 300_000 },
  /** Each request gets a proxy of its own, as a pool's strategy chooses it. */
  usesMax: 1,
  /** Where there are very many requests, several in a row use one proxy. */
  quickUsesMax: 64,
  ...{ parallelMax: 1, leasesMax: 100_000, waitingMax: 20_000, idleMs: 1000, agentsMax: 1000, tunnelHttp: false },
};

/** In one lease for a tunnel. More would keep a window's uses from others while its flights go one by one. */
const flightsMax = 8;

export class Leasing {
  readonly #ask: Ask;
  readonly #kinds: Kinds;
  readonly #outcomes: Outcomes;
  readonly #onProblem: (problem: Error) => void;
  readonly #ending = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #renewals = new Map<Block, NodeJS.Timeout>();
  /** Blocks of one given proxy, each for one tunnel. */
  readonly #single = new Map<string, Block>();

  constructor(port: Port, onProblem: (problem: Error) => void) {
    this.#onProblem = onProblem;
    this.#ask = askThrough(port, {
      retryMs,
      isClosed: () => this.#ending.signal.aborted,
      track: (work) => void this.#track(work),
    });
    this.#kinds = new Kinds({
      bounds,
      retryMs,
      ask: (pool, request) => this.#track(this.#request(pool, request, this.#ending.signal)),
      giveBack: (pool, block) => this.#track(this.#giveBack(pool, block)),
    });
    const onStop = (leaseId: string): void => {
      this.#kinds.stop(leaseId);
      const block = this.#single.get(leaseId);
      if (block !== undefined) block.stopped = true;
    };
    this.#outcomes = new Outcomes({ ask: this.#ask, bytesMax: () => port.bytesMax, onStop, onProblem });
  }

  /** @throws RemudaRefusal; RemudaFault; the signal's reason. */
  async take(pool: string, request: FetchLease & { proxyId?: string }, taking: Taking): Promise<Use> {
    const { proxyId, ...rest } = request;
    const use =
      proxyId === undefined
        ? await this.#kinds.take({ pool, request: rest }, taking)
        : await this.#takeOf(pool, { ...rest, proxyId }, { ...taking, uses: 1 });
    this.#renewLater(use.block);
    return use;
  }

  /** One more use of the same block, while this one is still under way. Undefined: the block has none, or is too large. */
  next({ block }: Use): Use | undefined {
    const isTooLarge = block.lease.uses - block.taken > flightsMax;
    return isTooLarge && !block.isQuick ? undefined : block.take();
  }

  /** One more use of the proxy of a use that has ended, for the same tunnel. @throws as `take` does. */
  async takeAlso({ block }: Use, taking: { waitMs: number; signal: AbortSignal }): Promise<Use> {
    const { pool, proxyId, uses } = block.lease;
    // Another request may use the block by now.
    const next = block.inFlight === 0 ? block.take() : undefined;
    const more = Math.min(block.spent && block.isQuick ? bounds.quickUsesMax : flightsMax, uses * 2);
    const also = next ?? (await this.#takeOf(pool, { proxyId }, { ...taking, uses: more }));
    this.#renewLater(also.block);
    return also;
  }

  /** Reports the outcome of a use, and ends it. Resolves when the outcome is in the ledger. */
  ended(use: Use, outcome: Outcome): Promise<void> {
    const { block } = use;
    // As long as the lease goes on, and its proxy does not rest, the report changes nothing for others.
    const isPressing = mayRest(outcome) || block.over || this.#single.has(block.lease.leaseId);
    const known = this.#track(this.#outcomes.report(block.lease.pool, outcome, { isPressing }));
    if (mayRest(outcome)) block.suspectUntil(known);
    use.end();
    if (block.inFlight === 0) this.#renewNoMore(block);
    if (this.#single.has(block.lease.leaseId) && block.inFlight === 0) this.#leave(block);
    return known;
  }

  /** Outcomes are reported and leases released, within this time. */
  async close(withinMs: number): Promise<void> {
    const late = new Promise((resolve) => setTimeout(resolve, withinMs).unref());
    const closed = new RemudaFault("closed", "The gateway is stopping.");
    this.#kinds.close(closed);
    for (const timer of this.#renewals.values()) clearTimeout(timer);
    const settled = async (): Promise<void> => {
      while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    };
    await Promise.race([settled(), late]);
    this.#ending.abort(closed);
  }

  async #request(
    pool: string,
    request: LeaseRequest,
    signal: AbortSignal,
  ): Promise<{ lease: LeaseReply; askedAt: number }> {
    const body = { ...request, requestId: randomUUID() };
    const askedAt = performance.now();
    const late = (reply: unknown): void => this.#giveBackLate(pool, reply);
    const lease = await this.#ask<LeaseReply>({ verb: "lease", pool, body, waitMs: request.waitMs ?? 0, signal, late });
    return { lease, askedAt };
  }

  /** Such a request does not wait at the service, so it is sent again until its time is over. */
  async #takeOf(
    pool: string,
    request: FetchLease & { proxyId: string },
    { waitMs, signal, uses }: { waitMs: number; signal?: AbortSignal | undefined; uses: number },
  ): Promise<Use> {
    const until = performance.now() + waitMs;
    for (let wanted = uses, pauseMs = pollMsMin; ; pauseMs = Math.min(pollMsMax, pauseMs * 2)) {
      signal?.throwIfAborted();
      try {
        const asked = this.#request(pool, { ...request, uses: wanted }, signal ?? this.#ending.signal);
        const { lease, askedAt } = await this.#track(asked);
        const block = new Block(lease, askedAt);
        const use = block.take();
        if (use === undefined) throw new RemudaFault("lease-over", "The lease ended before it could be used.");
        this.#single.set(lease.leaseId, block);
        return use;
      } catch (error) {
        if (!(error instanceof RemudaRefusal)) throw error;
        if (error.field === "uses" && wanted > 1) wanted = 1;
        else if (error.code !== "pool-exhausted") throw error;
        else {
          const nextMs = Math.max(pollMsMin, Math.min(pauseMs, error.retryAfterMs ?? pauseMs));
          if (performance.now() + nextMs > until) throw error;
          await orAborted(new Promise<void>((resolve) => setTimeout(resolve, nextMs).unref()), signal);
        }
      }
    }
  }

  #leave(block: Block): void {
    this.#single.delete(block.lease.leaseId);
    block.stopped = true; // Its remaining uses are given back.
    block.done();
    if (!block.spent) void this.#track(this.#giveBack(block.lease.pool, block));
  }

  /** Its outcomes go first, so that none arrives for a closed lease. */
  async #giveBack(pool: string, block: Block): Promise<void> {
    await this.#outcomes.flush();
    if (block.ended || block.spent) return;
    const body = { leaseId: block.lease.leaseId, used: block.taken };
    try {
      await this.#ask<ReleaseReply>({ verb: "release", pool, body });
    } catch (error) {
      const isGone = error instanceof RemudaRefusal && error.code === "unknown-lease";
      if (!isGone) this.#onProblem(error as Error); // Only Errors are thrown there. It expires by itself.
    }
  }

  /** No caller waits for this lease any more. */
  #giveBackLate(pool: string, reply: unknown): void {
    if (typeof reply !== "object" || reply === null || !("leaseId" in reply)) return;
    const body = { leaseId: reply.leaseId, used: 0 };
    this.#track(this.#ask<ReleaseReply>({ verb: "release", pool, body })).catch(() => {}); // It expires by itself.
  }

  /** As long as a use of the block is under way, its lease does not end. */
  #renewLater(block: Block): void {
    if (this.#renewals.has(block)) return;
    const leftMs = block.endsAt - performance.now();
    const timer = setTimeout(() => {
      this.#renewals.delete(block);
      if (block.inFlight > 0) void this.#track(this.#renew(block));
    }, leftMs * renewShare);
    this.#renewals.set(block, timer.unref());
  }

  #renewNoMore(block: Block): void {
    clearTimeout(this.#renewals.get(block));
    this.#renewals.delete(block);
  }

  async #renew(block: Block): Promise<void> {
    const askedAt = performance.now();
    const { leaseId, pool } = block.lease;
    try {
      const { leftMs } = await this.#ask<LeaseReply>({ verb: "renew", pool, body: { leaseId } });
      block.renewed(leftMs, askedAt);
    } catch {
      // The block is cut at its end, unless the next try succeeds.
    }
    if (block.inFlight > 0 && !block.ended) this.#renewLater(block);
  }

  /** close() waits for it. */
  #track<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = (): void => void this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }
}
