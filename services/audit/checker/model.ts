// The state that an independent reader must keep of a pool to check its next events. It is written from docs/rules.md
// and the protocol, not from the decisions. Nothing of the decisions is imported. If the two disagree, one of them is
// wrong. Finding that is the purpose of an audit.
import type { Policy } from "../../../events/policy.ts";
import { Bases } from "./bases.ts";
import { Due } from "./due.ts";
import type { Cause, ExitModel, LeaseModel, ProxyModel, TokenModel } from "./entities.ts";
import { Findings } from "./finding.ts";
import { exitLimits } from "./limits.ts";
import { isInQuota, lastClosedOf, leasesOf, quotaOf } from "./past.ts";
import { Sessions } from "./sessions.ts";
import { Tally } from "./tally.ts";

/** How long a closed lease may still be reported on. */
const closedKeptMs = 600_000;
const closedKeptMax = 2_000_000;
const retiredKeptMs = 3_600_000;

export class Model {
  readonly findings = new Findings();
  readonly tally = new Tally();
  pool = "";
  isOpen = false;
  isDraining = false;
  wasOpened = false;
  keyFingerprint = "";
  policy: Policy | undefined;
  policyVersion = 0;
  /** Of the commit being read. */
  at = 0;
  chance: string | undefined;
  /** Of the commit before. */
  before = 0;
  /** Place of the event being checked in its commit. */
  place = 0;
  /**
   * True for an alternative history. Its draws and refusals are copied from the recorded one, so they say nothing about
   * it.
   */
  isOther = false;
  openedAt = 0;
  /** The version of Remuda that writes, in words; "": not known. */
  writer = "";
  /** The last commit that is archived. */
  archivedTo = 0;
  /** From a backup: when, and until when nothing may be granted. 0: never. */
  restored = { at: 0, until: 0 };
  /** Number of the next proxy added, or lease granted or ended. Strategies order by it. */
  nextOrder = 1;
  readonly exits = new Map<string, ExitModel>();
  readonly proxies = new Map<string, ProxyModel>();
  #inTurn = this.proxies.values();
  /** Open leases, and those closed so recently that they may still be reported on. */
  readonly leases = new Map<string, LeaseModel>();
  openCount = 0;
  /** Open leases by the request that asked for them. */
  readonly requests = new Map<string, LeaseModel>();
  readonly holders = new Map<string, number>();
  readonly sessions = new Sessions();
  /** By the id of their proxy, or "pool". */
  readonly tokens = new Map<string, TokenModel>();
  /** A leader has claimed the pool, and does not serve yet. */
  takesOver = false;
  readonly retired = new Set<ProxyModel>();
  readonly expiries = new Due<LeaseModel>();
  readonly restEnds = new Due<ProxyModel>();
  readonly refreshEnds = new Due<{ token: TokenModel; tokenId: string }>();
  /** Must be settled before the commit ends. */
  readonly mustRest = new Map<ProxyModel, Cause[]>();
  readonly mayBeSpent = new Set<ExitModel>();
  readonly mustRetire = new Set<ProxyModel>();
  /** Leases whose uses, or whose last use, are all reported. Some may have closed since. */
  readonly mustClose: LeaseModel[] = [];
  /** Leases that were completed although no recorded use is marked final. Then an ignored outcome was. */
  readonly endedEarly: LeaseModel[] = [];
  mayHaveSaidLast = 0;
  /** In the order of their closing, from `#forgotten` on. */
  #closed: LeaseModel[] = [];
  #forgotten = 0;
  /** Cached, because an outcome is mostly followed by the end of its lease. */
  #lastAsked: LeaseModel | undefined;

  exitFor(key: string): ExitModel {
    let exit = this.exits.get(key);
    if (exit !== undefined && exit.members.length > 0 && exit.members.at(-1)?.state === "retired") {
      this.forgetRetiredOf(exit);
      exit = this.exits.get(key);
    }
    if (exit === undefined || (exit.members.length === 0 && this.#exitTracesEnd(exit) <= this.at)) {
      exit = {
        key,
        members: [],
        limits: exitLimits(this.policy, []),
        leases: 0,
        held: 0,
        bases: new Bases(),
        floor: 0,
        shadow: { held: 0, bases: new Bases() },
        usesSinceRest: 0,
        restUntil: 0,
        restBeganAt: -1,
        restBeganUntil: 0,
        lastClosedAt: 0,
        past: [],
        countedBy: undefined,
        filled: null,
        peaks: this.tally.peaksOf(key),
      };
      this.exits.set(key, exit);
    }
    return exit;
  }

  /** How many slots of the exit are occupied in a window of this width, as the rule counts them. */
  occupied(exit: ExitModel, windowMs: number, at = this.at): number {
    return this.heldOf(exit) + this.slotsFrom(exit, at - windowMs - (this.policy?.marginMs ?? 0));
  }

  heldOf(exit: ExitModel, which: (exit: ExitModel) => { held: number } = (each) => each): number {
    let held = which(exit).held;
    for (const { of } of exit.past) held += which(of).held;
    return held;
  }

  slotsFrom(exit: ExitModel, from: number, which: (exit: ExitModel) => { bases: Bases } = (each) => each): number {
    const known = Math.max(from, exit.floor);
    let slots = which(exit).bases.since(known);
    for (const { of } of exit.past) slots += which(of).bases.since(known);
    return slots;
  }

  /** Until then a use of a closed lease may be reported. */
  mayBeReportedUntil(exit: ExitModel): number {
    return exit.lastClosedAt + closedKeptMs + 1;
  }

  /** False if a recently widened window may contain uses that were already forgotten. */
  knowsAll(exit: ExitModel, windowMs: number, at = this.at): boolean {
    return exit.floor <= at - windowMs - (this.policy?.marginMs ?? 0);
  }

  keepMs(exit: ExitModel): number {
    let widest = 0;
    for (const { windowMs } of exit.limits.rates) widest = Math.max(widest, windowMs);
    return widest === 0 ? 0 : widest + (this.policy?.marginMs ?? 0);
  }

  /** Called when its proxies or the policy have changed. */
  limitAnew(exit: ExitModel): void {
    this.forgetPast(exit);
    exit.floor = Math.max(exit.floor, this.at - this.keepMs(exit));
    exit.limits = exitLimits(
      this.policy,
      exit.members.map((proxy) => proxy.own),
    );
  }

  /**
   * Forgets past grants that have run out, except for their part of the usage quota. The exit takes that part as its
   * own if no other exit counts it.
   */
  forgetPast(exit: ExitModel): void {
    if (exit.past.length === 0) return;
    const keepMs = this.keepMs(exit);
    exit.past = exit.past.filter((past) => {
      const { of, since } = past;
      const isShared = exit.limits.usage !== undefined && (of.countedBy?.size ?? 0) > 1 && isInQuota(of);
      const isOpen = of.leases > 0 || isShared;
      if (isOpen || this.mayBeReportedUntil(of) > this.at || (of.bases.last >= 0 && of.bases.last + keepMs >= this.at))
        return true;
      exit.usesSinceRest += of.usesSinceRest - since;
      exit.lastClosedAt = Math.max(exit.lastClosedAt, of.lastClosedAt);
      of.countedBy?.delete(exit);
      return false;
    });
  }

  /** Leases in a what-if whose proxy the strategy did not choose. */
  readonly pinned = new Set<string>();

  /** At most this many proxies, and the next ones at the next call. */
  someProxies(most: number): readonly ProxyModel[] {
    const some: ProxyModel[] = [];
    for (let left = Math.min(most, this.proxies.size); left > 0; left--) {
      let next = this.#inTurn.next();
      if (next.done) {
        this.#inTurn = this.proxies.values();
        next = this.#inTurn.next();
      }
      if (!next.done) some.push(next.value);
    }
    return some;
  }

  /** Open, or closed so recently that it may still be reported on. */
  lease(id: string): LeaseModel | undefined {
    if (this.#lastAsked?.id === id) return this.#lastAsked;
    const lease = this.leases.get(id);
    this.#lastAsked = lease;
    return lease;
  }

  openLease(id: string): LeaseModel | undefined {
    const lease = this.lease(id);
    return lease?.closedAt === 0 ? lease : undefined;
  }

  /** Returns true if there was no lease with this id yet. */
  granted(lease: LeaseModel): boolean {
    this.openCount++;
    const { size } = this.leases;
    this.leases.set(lease.id, lease);
    return this.leases.size > size;
  }

  closed(lease: LeaseModel): void {
    this.openCount--;
    this.#closed.push(lease);
  }

  /** Forgets everything that has run out, so that memory depends on the pool's size and not on its past. */
  forget(): void {
    const before = this.at - closedKeptMs;
    for (let lease = this.#closed[this.#forgotten]; lease !== undefined; lease = this.#closed[this.#forgotten]) {
      if (lease.closedAt >= before && this.#closed.length - this.#forgotten <= closedKeptMax) break;
      this.#forgotten++;
      // Another lease may have been forged with its id.
      if (this.leases.get(lease.id) === lease) this.leases.delete(lease.id);
      if (this.#lastAsked === lease) this.#lastAsked = undefined;
    }
    if (this.#forgotten < 10_000 || this.#forgotten * 2 < this.#closed.length) return;
    this.#closed = this.#closed.slice(this.#forgotten);
    this.#forgotten = 0;
  }

  forgetSessions(): void {
    if (this.policy !== undefined) this.sessions.forget({ at: this.at, ttlMs: this.policy.session.ttlMs });
  }

  /** Forgets retired proxies that have no trace left. */
  forgetRetired(): void {
    for (const proxy of this.retired) if (this.tracesEnd(proxy) <= this.at) this.dropProxy(proxy);
  }

  forgetRetiredOf({ members }: ExitModel): void {
    for (const proxy of [...members])
      if (proxy.state === "retired" && this.tracesEnd(proxy) <= this.at) this.dropProxy(proxy);
  }

  tracesEnd(proxy: ProxyModel): number {
    const { exit } = proxy;
    if (proxy.openLeases > 0) return Infinity;
    const failuresEnd = (proxy.failures.at(-1) ?? 0) + (this.policy?.failures?.windowMs ?? 0);
    const own = Math.max(
      proxy.retiredAt + retiredKeptMs,
      proxy.until,
      proxy.lastClosedAt + closedKeptMs + 1,
      failuresEnd,
    );
    return exit.members.length > 1 ? own : Math.max(own, this.#exitTracesEnd(exit));
  }

  #exitTracesEnd(exit: ExitModel): number {
    if (leasesOf(exit) > 0) return Infinity;
    const lastSlot = Math.max(exit.bases.last, ...exit.past.map(({ of }) => of.bases.last));
    const slotsEnd = lastSlot < 0 ? 0 : lastSlot + this.keepMs(exit) + 1;
    const lastClosedAt = lastClosedOf(exit);
    const quotaEnd = quotaOf(exit) > 0 ? lastClosedAt + (exit.limits.usage?.restMs ?? 0) : 0;
    return Math.max(exit.restUntil, slotsEnd, quotaEnd, lastClosedAt + closedKeptMs + 1);
  }

  dropProxy(proxy: ProxyModel): void {
    this.retired.delete(proxy);
    this.proxies.delete(proxy.id);
    this.tokens.delete(proxy.id);
    const { exit } = proxy;
    exit.members.splice(exit.members.indexOf(proxy), 1);
    if (exit.members.length === 0) this.exits.delete(exit.key);
    else this.limitAnew(exit);
  }
}

/** How long after a lease's end its requests may reach the target: by the policy at its grant or the present one. */
export function graceOf(model: Model, lease: LeaseModel): number {
  return Math.max(lease.graceMs, model.policy?.lease.graceMs ?? 0);
}
