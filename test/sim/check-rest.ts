// Every rest has a cause that the rules name, begins with it, lasts as long as they say, and ends on time.
import type { Event } from "../../events/event.ts";
import type { UseReported } from "../../events/outcome.ts";
import type { ProxyRetired, RestBegan, RestEnded } from "../../events/proxy.ts";
import type { Account, BookLease, BookProxy } from "./account.ts";
import { type Court, short } from "./court.ts";
import type { Ask } from "./service.ts";

interface Due {
  proxy: BookProxy;
  reasons: Set<string>;
  /** The bounds of `until`. */
  from: number;
  to: number;
  isNew: boolean;
  why: string;
}

interface Reported {
  event: UseReported;
  lease: BookLease;
  resting: boolean;
  current: boolean;
}

export class RestChecker {
  readonly #court: Court;
  /** An outcome that was just written: what it calls for follows, after the end of its lease. */
  #outcome: Reported | undefined;
  /** A rest ended or a proxy came back: failures may call for the next one at once. */
  #judged: BookProxy | undefined;
  #asOf = 0;
  #asks: readonly Ask[] = [];
  /** Exits that began their rest in this commit, and until when: those that join in come after. */
  readonly #begun = new Map<Account, number>();

  constructor(court: Court) {
    this.#court = court;
  }

  /** @param asks that this commit may be the work of. */
  begin(asks: readonly Ask[]): void {
    this.#asks = asks;
    this.#begun.clear();
    this.#closed.clear();
  }

  /** Asked just before each event is written. */
  before(event: Event): void {
    // An outcome may complete its lease before it has its other effects.
    if (event.type === "LeaseClosed" && event.how === "completed" && event.leaseId === this.#outcome?.event.leaseId)
      return;
    const isJudged = this.#judged !== undefined;
    const due = this.#take();
    // One that comes back into a spent usage quota begins that rest first; its failures are judged when it ends.
    const comesFirst = isJudged && event.type === "RestBegan" && event.exitUntil !== undefined;
    if (event.type === "RestBegan") this.#began(event, comesFirst ? undefined : due);
    else if (due !== undefined) this.#court.find(reasonOf(due), `${due.why}, and no rest began`);
    if (event.type === "RestEnded") this.#ended(event);
    if (event.type === "ProxyRetired") this.#retired(event);
  }

  /** Told just after each event is written. */
  after(event: Event): void {
    // Another limit from now on: who is over it by that alone is looked at when it is next used.
    if (["PoolOpened", "PolicyChanged", "ProxyAdded", "ProxyChanged"].includes(event.type)) this.#closed.clear();
    if (event.type === "UseReported") {
      const lease = this.#court.book.lease(event.leaseId);
      const { proxy } = lease;
      if (!proxy.retired)
        this.#outcome = { event, lease, resting: proxy.resting, current: lease.epoch === proxy.epoch };
    } else if (event.type === "RestEnded" && event.how === "over") this.#judged = this.#court.book.proxy(event.proxyId);
    else if (event.type === "ProxyAdded" && event.until === undefined) {
      this.#judged = this.#court.book.proxy(event.proxyId);
      this.#asOf = this.#court.book.at;
    }
  }

  /** At the end of a commit. @param led by a leader that had caught up. */
  end(led: boolean): void {
    const due = this.#take();
    if (due !== undefined) this.#court.find(reasonOf(due), `${due.why}, and no rest began`);
    if (!led) return;
    const { book } = this.#court;
    for (const proxy of book.proxies.values()) {
      if (proxy.resting && proxy.until <= book.at)
        this.#court.find("rest", `${short(proxy.id)} still rests at ${book.at}; its rest was over at ${proxy.until}`);
    }
    for (const account of book.accounts.values()) {
      const { usage, usesSinceRest } = account;
      const waits = [...account.members].find((proxy) => !proxy.retired && !proxy.resting);
      // A policy that has just lowered the limit is not judged until the next use, grant or end.
      const isSpent =
        usage !== null && usesSinceRest >= usage.limit && account.open.size === 0 && account.restUntil <= book.at;
      if (isSpent && waits !== undefined && this.#moved(account.key))
        this.#court.find(
          "usage",
          `${account.key} has ${usesSinceRest} uses in its usage quota (limit ${usage.limit}) and does not rest`,
        );
    }
  }

  /** Exits on which a lease ended in this commit: there the usage quota must have been looked at. */
  readonly #closed = new Set<string>();
  closed(key: string): void {
    this.#closed.add(key);
  }
  #moved(key: string): boolean {
    return this.#closed.delete(key);
  }

  #began(event: RestBegan, due: Due | undefined): void {
    const court = this.#court;
    const { book } = court;
    const proxy = book.proxy(event.proxyId);
    const what = `the rest of ${short(proxy.id)} (${event.reasons.join(", ")}) until ${event.until}, begun at ${book.at}`;
    const isNew = !proxy.resting;
    if (event.epoch !== proxy.epoch + (isNew ? 1 : 0))
      court.find("epoch", `${what} makes the epoch ${event.epoch}, before it was ${proxy.epoch}`);
    if (!isNew && event.until < proxy.until) court.find("rest", `${what} shortens one until ${proxy.until}`);
    for (const reason of event.reasons) court.saw(`rest: ${reason}`);
    if (!isNew) court.saw("rest: lengthened");
    if (due !== undefined) {
      const fits = due.proxy === proxy && event.until >= due.from && event.until <= due.to;
      const missing = [...due.reasons].filter((reason) => !event.reasons.some((each) => each === reason));
      const extra = event.reasons.filter((reason) => isNew && !due.reasons.has(reason));
      if (!fits || missing.length > 0 || extra.length > 0 || due.isNew !== isNew) {
        const bounds = due.from === due.to ? `${due.from}` : `${due.from} to ${due.to}`;
        court.find(
          reasonOf(due),
          `${due.why} calls for a rest until ${bounds} (${[...due.reasons].join(", ")}); ${what}`,
        );
      }
    } else {
      const why = this.#cause(event, proxy, isNew);
      if (why !== undefined) court.find(why.checker, `${what}: ${why.sentence}`);
    }
    if (event.exitUntil !== undefined) this.#begun.set(proxy.account, event.exitUntil);
  }

  /** A rest without an outcome that caused it. Undefined if the rest is well founded. */
  #cause(
    event: RestBegan,
    proxy: BookProxy,
    isNew: boolean,
  ): { checker: "rest" | "usage" | "epoch"; sentence: string } | undefined {
    const { book } = this.#court;
    const { account } = proxy;
    const outcome = this.#last;
    if (event.exitUntil !== undefined) {
      const { usage } = account;
      if (usage === null) return { checker: "usage", sentence: "the exit has no usage rule" };
      // A full usage quota rests from now on; one that is too short for a lease request, from when it became idle: that counts as rest.
      const froms = [book.at, account.idleFrom].map((from) => Math.max(isNew ? 0 : proxy.until, from + usage.restMs));
      if (!froms.includes(event.until)) return { checker: "usage", sentence: `expected until ${froms.join(" or ")}` };
      const requested = Math.max(1, ...this.#asks.map((ask) => Number(ask.body["minUses"] ?? 1)));
      const isSpent =
        account.open.size === 0 && account.usesSinceRest > 0 && account.usesSinceRest + requested > usage.limit;
      if (isSpent) return undefined;
      const { usesSinceRest, open } = account;
      return {
        checker: "usage",
        sentence: `its usage quota has ${usesSinceRest} of ${usage.limit} uses, ${open.size} leases are open`,
      };
    }
    const begun = this.#begun.get(account) ?? account.restUntil;
    const joins = account.restUntil > book.at || this.#begun.has(account);
    const isJoined =
      joins && [begun, account.restUntil].some((end) => event.until === Math.max(isNew ? 0 : proxy.until, end));
    if (event.reasons.includes("usage") && isJoined) {
      if (!this.#begun.has(account)) this.#court.saw("rest: joined in a later commit");
      return undefined;
    }
    const byHand = this.#asks.some(
      ({ verb, body }) =>
        verb === "proxies.rest" &&
        (body["ids"] as string[]).includes(proxy.id) &&
        event.until === book.at + Number(body["forMs"]),
    );
    if (event.reasons.includes("manual") && byHand) return undefined;
    if (outcome !== undefined && outcome.lease.proxy === proxy && !outcome.current)
      return {
        checker: "epoch",
        sentence: `no cause but an outcome of epoch ${outcome.lease.epoch}, and it is in ${proxy.epoch}`,
      };
    return { checker: "rest", sentence: "nothing called for it" };
  }

  #ended(event: RestEnded): void {
    const { book } = this.#court;
    const proxy = book.proxy(event.proxyId);
    this.#asOf = proxy.until;
    if (event.how === "over" && book.at < proxy.until)
      this.#court.find("rest", `${short(proxy.id)}'s rest ended at ${book.at}, ${proxy.until - book.at} ms early`);
    if (event.how === "revived" && !this.#asks.some(({ verb }) => verb === "proxies.revive"))
      this.#court.find("rest", `${short(proxy.id)}'s rest is ended by hand, and nobody asked for it`);
    this.#court.saw(`rest: ended, ${event.how}`);
  }

  #retired({ proxyId, reason }: ProxyRetired): void {
    const { book } = this.#court;
    const byHand = this.#asks.some(
      ({ verb, body }) => verb === "proxies.retire" && (body["ids"] as string[]).includes(proxyId),
    );
    const rule = book.rules.streak?.retireAfter ?? null;
    const byStreak = reason === "streak" && rule !== null && book.proxy(proxyId).streakRests >= rule;
    if (byStreak) this.#court.saw("retired for its streak");
    if (!byHand && !byStreak)
      this.#court.find("streak", `${short(proxyId)} is retired (${reason}), and nothing called for it`);
  }

  #last: Reported | undefined;
  #take(): Due | undefined {
    const [outcome, judged] = [this.#outcome, this.#judged];
    this.#outcome = undefined;
    this.#judged = undefined;
    this.#last = outcome;
    if (outcome !== undefined) return this.#dueAfter(outcome);
    return judged === undefined || judged.resting || judged.retired ? undefined : this.#failuresOf(judged, this.#asOf);
  }

  /** @param asOf the instant judged: of a rest that is over, the one at which it was, whenever that was noticed. */
  #failuresOf(proxy: BookProxy, asOf: number): Due | undefined {
    const { book } = this.#court;
    const rule = book.rules.failures;
    if (rule === null || asOf + rule.restMs <= book.at) return undefined;
    const count = proxy.failures.filter((at) => at > asOf - rule.windowMs).length;
    if (count <= rule.limit) return undefined;
    const until = asOf + rule.restMs;
    const why = `${count} failures of ${short(proxy.id)} within ${rule.windowMs} ms (limit ${rule.limit})`;
    return { proxy, reasons: new Set(["failures"]), from: until, to: until, isNew: true, why };
  }

  #dueAfter({ event, lease, resting, current }: Reported): Due | undefined {
    const { book } = this.#court;
    const { rules, at } = book;
    const { proxy } = lease;
    const causes: { reason: string; from: number; to: number }[] = [];
    const exactly = (reason: string, ms: number): void => void causes.push({ reason, from: at + ms, to: at + ms });
    const retryAfterMs = event.class === "throttled" ? Math.min(event.retryAfterMs ?? 0, 3_600_000) : 0;
    if (!current || resting) {
      if (!resting || retryAfterMs === 0 || at + retryAfterMs <= proxy.until) return undefined;
      exactly("throttle", retryAfterMs);
    } else {
      if (retryAfterMs > 0) exactly("throttle", retryAfterMs);
      const backoff = this.#backoff(event);
      if (backoff !== undefined) causes.push({ reason: "backoff", from: at + backoff.from, to: at + backoff.to });
      const failures = event.counts === true ? this.#failuresOf(proxy, at) : undefined;
      if (failures !== undefined) causes.push({ reason: "failures", from: failures.from, to: failures.to });
      const { streak } = rules;
      if (event.counts === true && streak !== null && event.streak > streak.limit) exactly("streak", streak.restMs);
      const { usage, usesSinceRest, open } = proxy.account;
      if (usage !== null && usesSinceRest >= usage.limit && open.size === 0) exactly("usage", usage.restMs);
    }
    if (causes.length === 0) return undefined;
    return {
      proxy,
      reasons: new Set(causes.map((cause) => cause.reason)),
      from: Math.max(...causes.map((cause) => cause.from)),
      to: Math.max(...causes.map((cause) => cause.to)),
      isNew: !resting,
      why: `the ${event.class} of ${short(proxy.id)} at ${at} (streak ${event.streak})`,
    };
  }

  #backoff(event: UseReported): { from: number; to: number } | undefined {
    const { backoff, outcomes } = this.#court.book.rules;
    if (outcomes[event.class].rest !== "backoff" || backoff.kind === "none") return undefined;
    if (backoff.kind === "fixed") return { from: backoff.restMs, to: backoff.restMs + backoff.jitterMs };
    const baseMs = (event.class === "success" ? undefined : backoff.baseMsBy[event.class]) ?? backoff.baseMs;
    // A class with a longer first rest than the longest one rests that long.
    const from = Math.min(baseMs * 2 ** Math.max(1, event.streak), Math.max(backoff.maxMs, baseMs * 2));
    return { from, to: from + Math.max(backoff.jitterMs, Math.floor(from * backoff.jitterShare)) };
  }
}

function reasonOf(due: Due): "rest" | "failures" | "streak" | "usage" {
  if (due.reasons.size > 1) return "rest";
  if (due.reasons.has("failures")) return "failures";
  if (due.reasons.has("usage")) return "usage";
  return due.reasons.has("streak") ? "streak" : "rest";
}
