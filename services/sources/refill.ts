// Acts when a pool runs low: its sources are asked at once, and its webhook is called. Neither happens more often than
// the source's `everyMsMin`, because a pool that stays low must not flood the site of its source.
import type { Clock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Outbound } from "../../transport/outbound.ts";
import type { Follower } from "./follower.ts";
import type { PoolPort } from "./pool.ts";

const webhookMs = 10_000;
/** Between the attempts of one call. */
const webhookPausesMs = [1000, 5000];

interface RefillPorts {
  pools: Pick<PoolPort, "leasable">;
  clock: Clock;
  /** Where a webhook may be. */
  outbound: Outbound;
  onTrouble(source: string, why: string): void;
  onDefect(pool: string, bug: unknown): void;
}

type Followed = Pick<Follower, "source" | "isLooking" | "isPutOff" | "lookNow">;

export class Refill {
  readonly #ports: RefillPorts;
  readonly #calledAt = new WeakMap<Followed, number>();
  readonly #stopping = new AbortController();

  constructor(ports: RefillPorts) {
    this.#ports = ports;
  }

  /** Checks each pool that has a source with `refill`, once. */
  async look(followers: readonly Followed[]): Promise<void> {
    const low = followers.filter(({ source }) => source.refill !== undefined);
    const pools = new Set(low.map(({ source }) => source.pool));
    const among = (pool: string): Followed[] => low.filter(({ source }) => source.pool === pool);
    const looks = [...pools].map((pool) =>
      this.#lookAt(pool, among(pool)).catch((bug: unknown) => this.#ports.onDefect(pool, bug)),
    );
    await Promise.all(looks);
  }

  async #lookAt(pool: string, followers: readonly Followed[]): Promise<void> {
    let leasable: number;
    try {
      leasable = await this.#ports.pools.leasable(pool);
    } catch (error) {
      if (error instanceof Fault) return; // A pool that does not answer does not count as low.
      throw error;
    }
    const now = this.#ports.clock.monotonic();
    for (const follower of followers) {
      const { refill, name } = follower.source;
      if (refill === undefined || leasable >= refill.leasableMin) continue;
      if (follower.isLooking) continue; // It is being asked. Its result comes first.
      if (now - (this.#calledAt.get(follower) ?? Number.NEGATIVE_INFINITY) < refill.everyMsMin) continue;
      this.#calledAt.set(follower, now);
      if (!follower.isPutOff) void follower.lookNow();
      if (refill.webhook === undefined) continue;
      const news = { pool, source: name, leasable, leasableMin: refill.leasableMin };
      void this.#call(refill.webhook, news).catch((why: Fault) => this.#ports.onTrouble(name, why.message));
    }
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #call(webhook: string, news: object): Promise<void> {
    const { signal } = this.#stopping;
    for (const pauseMs of [...webhookPausesMs, undefined]) {
      const trouble = await call(webhook, news, { stopping: signal, outbound: this.#ports.outbound });
      if (trouble === undefined || signal.aborted) return;
      // Only the host of the URL is shown: the remainder may be a secret.
      if (pauseMs === undefined || !trouble.passes)
        throw new Fault("retry-later", `the webhook at ${new URL(webhook).host} ${trouble.why}`);
      await new Promise<void>((resolve) => this.#ports.clock.after(pauseMs, resolve));
    }
  }
}

/** Undefined if the call succeeded. */
async function call(
  webhook: string,
  news: object,
  { stopping, outbound }: { stopping: AbortSignal; outbound: Outbound },
): Promise<{ why: string; passes: boolean } | undefined> {
  const { agentTo, fetchOnce, notAllowedIn, withLogin } = await import("./url.ts");
  const { url, headers: login } = withLogin(webhook);
  const headers = { "content-type": "application/json", ...login };
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(webhookMs)]);
  const agent = agentTo(outbound);
  try {
    const asked = { method: "POST", headers, body: JSON.stringify(news), signal };
    const reply = await fetchOnce(url, asked, { agent, outbound });
    if (reply.ok) return undefined;
    return { why: `answers ${reply.status}`, passes: reply.status === 429 || reply.status >= 500 };
  } catch (error) {
    const hidden = notAllowedIn(error);
    if (hidden !== undefined) return { why: `is not called: ${hidden.message}`, passes: false };
    return { why: "does not answer", passes: true };
  } finally {
    void agent.destroy(); // The body does not matter.
  }
}
