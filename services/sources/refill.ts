// A pool that runs low: its sources are asked at once, and whoever wants to know is called. Neither more often than the
// source's `everyMsMin`, for a pool that stays low must not make a source of proxies count its visitors.
import { Fault } from "../../runtime/fault.ts";
import type { Follower } from "./follower.ts";
import type { PoolPort } from "./pool.ts";

const webhookMs = 10_000;

export class Refill {
  readonly #pools: PoolPort;
  readonly #calledAt = new WeakMap<Follower, number>();
  readonly #onTrouble: (source: string, why: string) => void;

  constructor({ pools, onTrouble }: { pools: PoolPort; onTrouble: (source: string, why: string) => void }) {
    this.#pools = pools;
    this.#onTrouble = onTrouble;
  }

  /** One look at every pool that has a floor. @param now monotonic milliseconds. */
  async look(followers: readonly Follower[], now: number): Promise<void> {
    const low = followers.filter(({ source }) => source.refill !== undefined);
    const pools = new Set(low.map(({ source }) => source.pool));
    await Promise.all(
      [...pools].map((pool) =>
        this.#lookAt(
          pool,
          low.filter(({ source }) => source.pool === pool),
          now,
        ),
      ),
    );
  }

  async #lookAt(pool: string, followers: readonly Follower[], now: number): Promise<void> {
    let leasable: number;
    try {
      leasable = await this.#pools.leasable(pool);
    } catch (error) {
      if (error instanceof Fault) return; // A pool that does not answer is not one that runs low.
      throw error;
    }
    for (const follower of followers) {
      const { refill, name } = follower.source;
      if (refill === undefined || leasable >= refill.leasableMin) continue;
      if (now - (this.#calledAt.get(follower) ?? Number.NEGATIVE_INFINITY) < refill.everyMsMin) continue;
      this.#calledAt.set(follower, now);
      void follower.lookNow({ whole: true });
      if (refill.webhook === undefined) continue;
      const news = { pool, source: name, leasable, leasableMin: refill.leasableMin };
      void call(refill.webhook, news).catch((why: Fault) => this.#onTrouble(name, why.message));
    }
  }
}

async function call(webhook: string, news: object): Promise<void> {
  const body = JSON.stringify(news);
  const headers = { "content-type": "application/json" };
  const signal = AbortSignal.timeout(webhookMs);
  const { host } = new URL(webhook); // The rest of it may be a secret.
  const reply = await fetch(webhook, { method: "POST", headers, body, signal }).catch(() => undefined);
  if (reply?.ok !== true)
    throw new Fault(
      "retry-later",
      `the webhook at ${host} ${reply === undefined ? "does not answer" : `answers ${reply.status}`}`,
    );
}
