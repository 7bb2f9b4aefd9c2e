// Workers of every kind: prompt and slow ones, some that die with a lease, repeat themselves, report late, or never.
// All keep the one assumption of the promise: no request leaves after the end they were told, counted from when they
// asked, and none reaches the target later than the grace after it left or failed.
import type { LeaseReply } from "../../events/lease.ts";
import { isRefusal } from "../../events/refusal.ts";
import type { Checkers, Held, SimPolicy } from "./checkers.ts";
import type { SimService } from "./service.ts";
import type { World } from "./world.ts";

const patienceMs = 3000;

export class Workers {
  leases = 0;
  refusals = 0;
  silences = 0;
  readonly received: LeaseReply[] = [];
  readonly #world: World;
  readonly #service: SimService;
  readonly #checkers: Checkers;
  readonly #policy: SimPolicy;
  #working = 0;
  #over = false;

  constructor(given: { world: World; service: SimService; checkers: Checkers; policy: SimPolicy }) {
    this.#world = given.world;
    this.#service = given.service;
    this.#checkers = given.checkers;
    this.#policy = given.policy;
  }

  get idle(): boolean {
    return this.#working === 0;
  }

  start(count: number): void {
    for (let i = 0; i < count; i++) {
      this.#working++;
      void this.#work(i)
        .catch((error) => {
          this.#service.broken ??= error;
        })
        .finally(() => this.#working--);
    }
  }

  /** No new wishes from now on. */
  finish(): void {
    this.#over = true;
  }

  async #work(worker: number): Promise<void> {
    const { random } = this.#world;
    await this.#world.sleep(random.int(0, 50));
    for (let n = 0; !this.#over; n++) {
      const wish = {
        requestId: `worker-${worker}-wish-${n}-0123456789`,
        uses: random.chance(0.7) ? 1 : random.int(1, Math.min(5, this.#usesMax())),
        waitMs: random.chance(0.5) ? 0 : random.int(0, 1500),
        ttlMs: random.int(50, 900),
        ...(random.chance(0.1) ? { labels: { kind: random.pick(["a", "b"]) } } : {}),
      };
      const sentAt = this.#world.now;
      const answer = await this.#ask("lease", wish);
      if (answer === undefined) {
        this.silences++;
        // The same wish again, as a careful client does; sometimes another one.
        if (random.chance(0.7)) n--;
        await this.#world.sleep(random.int(10, 300));
      } else if (isRefusal(answer)) {
        this.refusals++;
        await this.#world.sleep(random.int(5, Math.max(5, Math.min(answer.retryAfterMs ?? 200, 400))));
      } else await this.#use(answer as LeaseReply, sentAt);
    }
  }

  #usesMax(): number {
    return Math.min(this.#policy.usage?.limit ?? 5, ...this.#policy.rate.map((rate) => rate.limit));
  }

  async #use(lease: LeaseReply, sentAt: number): Promise<void> {
    const world = this.#world;
    const { random } = world;
    this.leases++;
    this.received.push(lease);
    const deadline = sentAt + lease.leftMs;
    const exit = lease.labels.exit ?? lease.host;
    const key = this.#policy.limitBy === "exit" ? exit : lease.proxyId;
    const { leaseId, proxyId, epoch, uses, grantedAt } = lease;
    const held: Held = {
      leaseId,
      key,
      proxyId,
      epoch,
      uses,
      grantedAt,
      from: world.now,
      until: Math.max(deadline, world.now),
      used: uses,
    };
    this.#checkers.held.push(held);
    const diesAfter = random.chance(0.1) ? random.int(0, lease.uses) : Number.POSITIVE_INFINITY;
    const slow = random.chance(0.2);
    for (let n = 1; n <= lease.uses; n++) {
      await world.sleep(slow ? random.int(0, 400) : random.int(0, 30));
      if (world.now > deadline || n > diesAfter) return; // It stops at its own clock, or dies; the lease runs out.
      const early = n < lease.uses && random.chance(0.05);
      if (early) return this.#giveBack(held, n - 1);
      await this.#request(held, { n, key, deadline, last: n === lease.uses });
    }
    if (random.chance(0.3)) await this.#giveBack(held, lease.uses);
  }

  async #giveBack(held: Held, used: number): Promise<void> {
    const { leaseId } = held;
    held.until = Math.min(held.until, this.#world.now);
    held.used = used;
    await this.#ask("release", { leaseId, used });
  }

  /** One request through the proxy, and its report. */
  async #request(held: Held, use: { n: number; key: string; deadline: number; last: boolean }): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const { graceMs } = this.#policy;
    const kind = random.pick([
      "success",
      "success",
      "success",
      "success",
      "failure",
      "abort",
      "silent",
      "late",
    ] as const);
    const transit = random.chance(0.1) ? random.int(0, 300) : random.int(0, 20);
    if (kind === "abort") {
      // Given up on the way; it may still arrive, within the grace.
      await world.sleep(Math.min(transit, Math.max(0, use.deadline - world.now)));
      if (random.chance(0.5)) world.after(random.int(0, graceMs), () => this.#checkers.arrived(use.key, world.now));
      return this.#report(held, use, { reason: random.pick(["timeout", "client-abort"]) });
    }
    const arrivesAt = Math.min(world.now + transit, use.deadline + graceMs);
    await world.sleep(arrivesAt - world.now);
    this.#checkers.arrived(use.key, world.now);
    if (kind === "silent") return;
    await world.sleep(kind === "late" ? random.int(100, 3000) : random.int(0, 20));
    await this.#report(held, use, kind === "failure" ? { reason: "proxy-error" } : { status: 200 });
  }

  async #report(held: Held, use: { n: number; last: boolean }, seen: object): Promise<void> {
    const world = this.#world;
    const { random } = world;
    const outcome = { leaseId: held.leaseId, n: use.n, ...seen };
    // The last report closes a lease whose others have all come; counting it closed too early only weakens the check.
    if (use.last) held.until = Math.min(held.until, world.now);
    const isFailure = "reason" in seen && seen.reason !== "client-abort";
    const failure = { lease: held, sentAt: world.now, confirmedAt: Number.POSITIVE_INFINITY };
    if (isFailure) this.#checkers.failures.push(failure);
    if (random.chance(0.6)) {
      world.after(random.int(0, 10), () => this.#service.publish(random.chance(0.2) ? [outcome, outcome] : outcome));
      if (random.chance(0.1)) world.after(random.int(0, 500), () => this.#service.publish(outcome));
      return;
    }
    const answer = await this.#ask("report", { outcomes: [outcome] });
    if ((answer as { accepted?: number } | undefined)?.accepted === 1) failure.confirmedAt = world.now;
  }

  /** Undefined: no answer came in time. */
  #ask(verb: "lease" | "release" | "report", body: object): Promise<object | undefined> {
    const world = this.#world;
    return new Promise((resolve) => {
      const giveUp = world.after(patienceMs, () => resolve(undefined));
      world.after(world.random.int(0, 5), () =>
        this.#service.request(verb, body, (answer) => {
          if (world.random.chance(0.01)) return; // The reply is lost.
          world.after(world.random.int(0, 5), () => {
            giveUp();
            resolve(answer);
          });
        }),
      );
    });
  }
}
