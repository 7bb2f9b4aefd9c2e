// The used part of each user's quotas, over all pools that one process leads. The numbers of open leases and of recent
// grants come from the pools' states, so a new leader continues them exactly. Waiting requests are only in the leaders'
// memory. Only users with a quota are counted, from their first request on. Their earlier leases are looked up once.
import type { Event } from "../../events/event.ts";
import { overQuota, type Quota, type QuotaName } from "../../protocol/quota.ts";
import { overloaded, type Refusal } from "../../protocol/refusal.ts";
import type { Lease, PoolState } from "../fold/state.ts";
import { Heap } from "../structures/heap.ts";

const minuteMs = 60_000;

interface Asked {
  user?: string | undefined;
  quota?: Quota | undefined;
}

/** A request that waits. */
interface Waiting {
  readonly user?: string | undefined;
  readonly deadline: number;
}

/** One of the pools that are counted together. */
export interface QuotaPool {
  readonly state: PoolState;
  /** Each copy of a waiting request. */
  waiting(): Iterable<Waiting>;
}

/** Something that a user holds until `until` at the latest: an open lease, or a place of a waiting request. */
interface Held {
  until: number;
  place: number;
}

interface Grant {
  at: number;
  of: PoolState;
}

class Usage {
  readonly open = newHeld();
  readonly openById = new Map<string, Held>();
  readonly waiting = newHeld();
  readonly copies = new Map<Waiting, Held[]>();
  /** The leases granted in the last minute, from `#first` on, in the order of granting. */
  #granted: Grant[] = [];
  #first = 0;

  hold({ id, expiresAt }: Lease): void {
    const held = this.openById.get(id) ?? { until: 0, place: -1 };
    held.until = expiresAt;
    this.openById.set(id, held);
    this.open.set(held);
  }

  letGo(leaseId: string): void {
    const held = this.openById.get(leaseId);
    if (held !== undefined) this.open.delete(held);
    this.openById.delete(leaseId);
  }

  waits(waiting: Waiting): void {
    const held = { until: waiting.deadline, place: -1 };
    const copies = this.copies.get(waiting) ?? [];
    copies.push(held);
    this.copies.set(waiting, copies);
    this.waiting.set(held);
  }

  leaves(waiting: Waiting): void {
    for (const held of this.copies.get(waiting) ?? []) this.waiting.delete(held);
    this.copies.delete(waiting);
  }

  addGrant(grant: Grant): void {
    this.#granted.push(grant);
  }

  /** Merges the grants of a pool that is led here from now on into those of the other pools. */
  mergeGrants(grants: readonly Grant[]): void {
    this.#granted = [...this.#granted.slice(this.#first), ...grants].sort((a, b) => a.at - b.at);
    this.#first = 0;
  }

  forget(pool: PoolState): void {
    this.#granted = this.#granted.slice(this.#first).filter(({ of }) => of !== pool);
    this.#first = 0;
  }

  /** The first time at which fewer than `most` leases were granted in the last minute. */
  grantableAt(most: number, at: number): number {
    while ((this.#granted[this.#first]?.at ?? Infinity) <= at - minuteMs) this.#first++;
    if (this.#first > this.#granted.length / 2) {
      this.#granted = this.#granted.slice(this.#first);
      this.#first = 0;
    }
    const over = this.#granted.length - this.#first - most;
    return over < 0 ? at : (this.#granted[this.#first + over]?.at ?? at) + minuteMs;
  }
}

const newHeld = () => new Heap<"place", Held>("place", (a, b) => a.until < b.until);

export class Quotas {
  readonly #pools = new Set<QuotaPool>();
  readonly #users = new Map<string, Usage>();

  /** The pool is led here from now on. */
  add(pool: QuotaPool): void {
    this.#pools.add(pool);
    this.#look(pool, this.#users);
  }

  remove(pool: QuotaPool): void {
    if (!this.#pools.delete(pool) || this.#users.size === 0) return;
    for (const { id, user } of pool.state.leases.values()) this.#users.get(user ?? "")?.letGo(id);
    for (const usage of this.#users.values()) usage.forget(pool.state);
    for (const waiting of pool.waiting()) this.#users.get(waiting.user ?? "")?.leaves(waiting);
  }

  /** Why this user may not take another lease now. */
  leaseRefused(asked: Asked, at: number): Refusal | undefined {
    const usage = this.#usageOf(asked);
    if (usage === undefined) return undefined;
    const { openLeases = Infinity, leasesPerMinute = Infinity } = asked.quota ?? {};
    if (usage.open.size >= openLeases) return refused(asked, "openLeases", roomAt(usage.open, openLeases) - at);
    const nextAt = usage.grantableAt(leasesPerMinute, at);
    return nextAt > at ? refused(asked, "leasesPerMinute", nextAt - at) : undefined;
  }

  /** Why this user may not let another request wait. */
  waitRefused(asked: Asked, at: number): Refusal | undefined {
    const usage = this.#usageOf(asked);
    const { waitingRequests = Infinity } = asked.quota ?? {};
    if (usage === undefined || usage.waiting.size < waitingRequests) return undefined;
    return refused(asked, "waitingRequests", roomAt(usage.waiting, waitingRequests) - at);
  }

  /** Called for each event, after it was folded. */
  saw(state: PoolState, event: Event): void {
    if (this.#users.size === 0) return;
    if (event.type !== "LeaseGranted" && event.type !== "LeaseRenewed" && event.type !== "LeaseClosed") return;
    const lease = state.leases.get(event.leaseId) ?? state.closedLeases.get(event.leaseId);
    const usage = this.#users.get(lease?.user ?? "");
    if (lease === undefined || usage === undefined) return;
    if (event.type === "LeaseClosed") return usage.letGo(lease.id);
    usage.hold(lease);
    if (event.type === "LeaseGranted") usage.addGrant({ at: lease.grantedAt, of: state });
  }

  waits(waiting: Waiting): void {
    this.#users.get(waiting.user ?? "")?.waits(waiting);
  }

  leaves(waiting: Waiting): void {
    this.#users.get(waiting.user ?? "")?.leaves(waiting);
  }

  #usageOf({ user, quota }: Asked): Usage | undefined {
    if (user === undefined) return undefined;
    if (quota === undefined) {
      // The user may have had a quota before.
      this.#users.delete(user);
      return undefined;
    }
    let usage = this.#users.get(user);
    if (usage === undefined) {
      usage = new Usage();
      this.#users.set(user, usage);
      for (const pool of this.#pools) this.#look(pool, new Map([[user, usage]]));
    }
    return usage;
  }

  /** Looks up the leases and waiting requests of these users in the pool. */
  #look({ state, waiting }: QuotaPool, users: ReadonlyMap<string, Usage>): void {
    if (users.size === 0) return;
    const recent = new Map<Usage, Grant[]>();
    for (const leases of [state.leases, state.closedLeases]) {
      for (const lease of leases.values()) {
        const usage = users.get(lease.user ?? "");
        if (usage === undefined) continue;
        if (lease.closed === null) usage.hold(lease);
        if (lease.grantedAt <= state.at - minuteMs) continue;
        const grants = recent.get(usage) ?? [];
        grants.push({ at: lease.grantedAt, of: state });
        recent.set(usage, grants);
      }
    }
    for (const [usage, grants] of recent) usage.mergeGrants(grants);
    for (const each of waiting()) users.get(each.user ?? "")?.waits(each);
  }
}

/** When enough of them have ended, if they all last as long as they may. */
function roomAt(held: Heap<"place", Held>, most: number): number {
  let over = held.size - most;
  for (const { until } of held.inOrder()) if (over-- <= 0) return until;
  return 0; // There is room.
}

function refused({ user = "", quota }: Asked, name: QuotaName, ms: number): Refusal {
  return overloaded(overQuota(user, name, quota?.[name] ?? 0), Math.max(1, ms));
}
