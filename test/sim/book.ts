// The ledger as an outsider reads it: the proxies that could be leased to a request, and the fields that an answer must
// have. It shares no code with the decisions or the fold, keeps everything in the simplest form, and may be slow.
import type { Event } from "../../events/event.ts";
import type { LeaseClosed, LeaseGranted } from "../../events/lease.ts";
import type { UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { ProxyAdded, ProxyChanged } from "../../events/proxy.ts";
import { Account, type BookLease, type BookProxy } from "./account.ts";
import { Sessions } from "./sessions.ts";
import { TokenBook } from "./token-book.ts";

export class Book {
  policy: Policy | undefined;
  opened = false;
  draining = false;
  at = 0;
  place = 0;
  term = 0;
  leader = "";
  readonly sessions = new Sessions();
  readonly tokens = new TokenBook();
  readonly proxies = new Map<string, BookProxy>();
  readonly leases = new Map<string, BookLease>();
  readonly open = new Set<BookLease>();
  readonly accounts = new Map<string, Account>();
  readonly counts = { succeeded: 0, failed: 0, neutral: 0, granted: 0, expired: 0 };

  get rules(): Policy {
    if (this.policy === undefined) throw new Error("the ledger has no policy yet");
    return this.policy;
  }

  proxy(id: string): BookProxy {
    const proxy = this.proxies.get(id);
    if (proxy === undefined) throw new Error(`the ledger names the proxy ${id}, which it never added`);
    return proxy;
  }

  lease(id: string): BookLease {
    const lease = this.leases.get(id);
    if (lease === undefined) throw new Error(`the ledger names the lease ${id}, which it never granted`);
    return lease;
  }

  /** How long after its end a request of it may arrive: by the policy of its grant or the present one. */
  graceOf(lease: BookLease): number {
    return Math.max(lease.graceMs, this.rules.lease.graceMs);
  }

  /** Where it counts: at the exit that it was granted through, and at those that its proxy has moved to from there. */
  accountsOf(lease: BookLease): Account[] {
    return [...this.accounts.values()].filter((account) => account.leases.has(lease));
  }

  advance(at: number): void {
    this.at = at;
    if (this.policy !== undefined) this.sessions.forget(at, this.policy.session.ttlMs);
  }

  write(event: Event): void {
    this.place++;
    this.tokens.write(event);
    switch (event.type) {
      case "PoolOpened":
      case "PolicyChanged":
        if (event.type === "PoolOpened") [this.opened, this.draining] = [true, false];
        this.#newPolicy(event.policy);
        break;
      case "PoolClosed":
        if (event.draining) this.draining = true;
        else this.opened = false;
        break;
      case "LeaderClaimed":
        [this.leader, this.term] = [event.leader, event.term];
        break;
      case "ProxyAdded":
        this.#add(event);
        break;
      case "ProxyChanged":
        this.#change(event);
        break;
      case "ProxyRetired":
        Object.assign(this.proxy(event.proxyId), { retired: true, resting: false });
        break;
      case "RestBegan": {
        const proxy = this.proxy(event.proxyId);
        const before = proxy.until > this.at ? proxy.reasons : [];
        const fresh = event.reasons.filter((reason) => !before.includes(reason));
        if (fresh.includes("failures")) proxy.failures = [];
        if (fresh.includes("streak")) [proxy.streak, proxy.streakRests] = [0, proxy.streakRests + 1];
        Object.assign(proxy, { resting: true, until: event.until, reasons: event.reasons, epoch: event.epoch });
        if (event.exitUntil !== undefined) proxy.account.rest(event.exitUntil);
        break;
      }
      case "RestEnded": {
        const proxy = this.proxy(event.proxyId);
        if (event.how === "revived" && proxy.reasons.includes("usage")) proxy.account.restUntil = 0;
        Object.assign(proxy, { resting: false, until: 0, reasons: [] });
        break;
      }
      case "LeaseGranted":
        this.#grant(event);
        break;
      case "LeaseRenewed":
        this.lease(event.leaseId).expiresAt = event.expiresAt;
        break;
      case "LeaseClosed":
        this.#close(event);
        break;
      case "UseReported":
        this.#report(event);
        break;
    }
  }

  #newPolicy(policy: Policy): void {
    const before = this.policy;
    this.policy = policy;
    this.tokens.policy(policy);
    this.sessions.forget(this.at, policy.session.ttlMs);
    if (before?.countFrom === "grant" && policy.countFrom === "report") this.#countFromReports();
    if (before !== undefined && before.limitBy !== policy.limitBy) this.#regroup();
    for (const account of this.accounts.values()) account.limit(policy, this.at);
  }

  /**
   * A granted use that is not reported holds a slot until its report, in place of the slot that began with the grant.
   */
  #countFromReports(): void {
    for (const lease of this.open) {
      if (!lease.fromGrant) continue;
      lease.fromGrant = false;
      for (const [i, use] of lease.made.entries()) if (!lease.reported.has(i + 1)) use.slotAt = undefined;
    }
  }

  #accountOf(proxyId: string, exit: string): Account {
    const key = this.rules.limitBy === "exit" ? exit : proxyId;
    let account = this.accounts.get(key);
    if (account === undefined) {
      account = new Account(key);
      this.accounts.set(key, account);
      account.limit(this.rules, this.at);
    }
    return account;
  }

  /** No lease is open and no slot is occupied then: only usage quotas and rests carry over. */
  #regroup(): void {
    const proxies = [...this.proxies.values()];
    const before = new Map(proxies.map((proxy) => [proxy, proxy.account]));
    for (const account of this.accounts.values()) {
      if (account.members.size > 0) this.accounts.delete(account.key);
      account.leases.clear();
    }
    for (const [proxy, old] of before) {
      proxy.account = this.#accountOf(proxy.id, proxy.exit);
      proxy.account.members.add(proxy);
      for (let n = old.usesSinceRest; n > 0; n--)
        proxy.account.count({ slotAt: 0, returned: false }, { inQuota: true });
      proxy.account.restUntil = Math.max(proxy.account.restUntil, old.restUntil);
    }
    for (const lease of this.leases.values()) lease.proxy.account.leases.add(lease);
  }

  #add(event: ProxyAdded): void {
    const { proxyId, exit, epoch, scheme, labels, limits } = event;
    const known = this.proxies.get(proxyId);
    const account = this.#accountOf(proxyId, exit);
    const proxy: BookProxy = known ?? {
      id: proxyId,
      scheme,
      address: `${event.host}:${event.port}`,
      labels,
      exit,
      limits,
      account,
      retired: false,
      resting: false,
      until: 0,
      reasons: [],
      epoch,
      score: 0,
      streak: 0,
      streakRests: 0,
      failures: [],
      open: 0,
      totals: { granted: 0, succeeded: 0, failed: 0, neutral: 0 },
    };
    this.proxies.set(proxyId, proxy);
    Object.assign(proxy, { scheme, labels, limits, epoch, score: 0, streak: 0, streakRests: 0, retired: false });
    Object.assign(proxy, { resting: event.until !== undefined, until: event.until ?? 0, reasons: event.reasons ?? [] });
    this.#move(proxy, exit);
  }

  #change(event: ProxyChanged): void {
    const proxy = this.proxy(event.proxyId);
    Object.assign(proxy, { labels: event.labels, limits: event.limits });
    this.#move(proxy, event.exit);
  }

  /**
   * Uses stay with the address. A proxy that was alone there, apart from retired ones, takes them along as well: the
   * address may only have got another name.
   */
  #move(proxy: BookProxy, exit: string): void {
    proxy.exit = exit;
    const [old, account] = [proxy.account, this.#accountOf(proxy.id, exit)];
    old.members.delete(proxy);
    account.members.add(proxy);
    proxy.account = account;
    if (old !== account && [...old.members].every(({ retired }) => retired))
      account.takeOver(old, (windowMs) => this.at + windowMs + this.rules.marginMs);
    old.limit(this.rules, this.at);
    account.limit(this.rules, this.at);
  }

  #grant(event: LeaseGranted): void {
    const proxy = this.proxy(event.proxyId);
    const { account } = proxy;
    const { leaseId: id, uses, epoch, expiresAt, request, tokenId } = event;
    const fromGrant = this.rules.countFrom === "grant";
    const { at: grantedAt, place } = this;
    const { rates, key: exit } = account;
    const counted = new Set(account.leases);
    const slotAt = fromGrant ? this.at : undefined;
    const made = Array.from({ length: uses }, () => ({ slotAt, returned: false }));
    const granted = { id, proxy, account, exit, counted, made, uses, epoch, grantedAt, place, expiresAt };
    const by = { request, tokenId, fromGrant, wasFromGrant: fromGrant, rates, graceMs: this.rules.lease.graceMs };
    const lease: BookLease = { ...granted, ...by, reported: new Set(), closed: undefined };
    this.leases.set(id, lease);
    this.open.add(lease);
    if (request.session !== undefined)
      this.sessions.grant(request.session, lease, { at: this.at, max: this.rules.session.max });
    account.open.add(lease);
    account.leases.add(lease);
    for (const use of made) account.count(use, { inQuota: true });
    proxy.open++;
    proxy.totals.granted += uses;
    this.counts.granted++;
  }

  #report(event: UseReported): void {
    const lease = this.lease(event.leaseId);
    const { proxy } = lease;
    const graceMs = this.graceOf(lease);
    const isOver = event.n > (lease.closed?.used ?? lease.uses);
    lease.reported.add(event.n);
    const arrivesLate = ["unreachable", "timeout", "client-abort"].includes(event.class);
    const slotAt = this.at + (arrivesLate ? graceMs : 0);
    if (isOver) {
      const inQuota = event.storedAt <= lease.expiresAt + graceMs;
      const use = { slotAt, returned: false };
      for (const account of this.accountsOf(lease)) {
        account.count(use, { inQuota });
      }
    } else if (!lease.fromGrant) lease.made[event.n - 1]!.slotAt = slotAt; // One of the granted uses.
    const report = { at: this.at, bytes: event.bytes ?? 0 };
    for (const account of this.accountsOf(lease)) account.report(report);
    const rule = this.rules.outcomes[event.class];
    if (rule.counts) {
      // No more is remembered than the rule in force can need: another rule begins with that.
      const failures = [...proxy.failures, Math.min(event.storedAt, this.at)].sort((a, b) => a - b);
      proxy.failures = failures.slice(-(this.rules.failures?.limit ?? 0) - 1);
    }
    proxy.score = event.score;
    proxy.streak = event.streak;
    const counted = event.class === "success" ? "succeeded" : rule.counts || rule.score < 0 ? "failed" : "neutral";
    proxy.totals[counted]++;
    this.counts[counted]++;
  }

  #close(event: LeaseClosed): void {
    const lease = this.lease(event.leaseId);
    const { proxy } = lease;
    const endedAt = event.how === "expired" ? lease.expiresAt : this.at;
    const slotAt = endedAt + this.graceOf(lease);
    lease.closed = { used: event.used, at: this.at, how: event.how, slotAt };
    this.open.delete(lease);
    for (const account of this.accountsOf(lease)) {
      account.open.delete(lease);
    }
    proxy.open--;
    if (lease.request.session !== undefined) this.sessions.close(lease.request.session, lease, this.at);
    for (const [i, use] of lease.made.entries()) {
      if (i >= event.used) use.returned = true;
      else if (!lease.fromGrant && !lease.reported.has(i + 1)) use.slotAt = slotAt;
    }
    if (event.how === "expired") this.counts.expired++;
  }
}
