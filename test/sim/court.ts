// The common parts of the checkers: the book, the log of events, and a place to report violations.
import type { BookProxy } from "./account.ts";
import { Book } from "./book.ts";
import type { World } from "./world.ts";

export const checkers = [
  "rate",
  "concurrency",
  "usage",
  "rest",
  "epoch",
  "streak",
  "score",
  "totals",
  "lease",
  "outcome",
  "ledger",
  "catch-up",
  "secret",
  "answer",
  "request-id",
  "fairness",
  "waiting",
  "refusal",
  "retry-after",
  "replay",
  "settle",
  "token",
  "broken",
  /** The audit's own checker, which reads the same commits. */
  "audit",
] as const;
export type Checker = (typeof checkers)[number];

export interface Finding {
  checker: Checker;
  /** The broken promise in one sentence, with the numbers. */
  sentence: string;
}

export interface Wanted {
  minUses: number;
  labels?: Record<string, string> | undefined;
  schemes?: readonly string[] | undefined;
  exclude?: readonly string[] | undefined;
  session?: string | undefined;
  holder?: string | undefined;
  token?: boolean | undefined;
}

export class Court {
  readonly book = new Book();
  readonly world: World;
  readonly findings: Finding[] = [];
  /** Counts of events: a run in which nothing happens proves nothing. */
  readonly seen = new Map<string, number>();

  readonly #alone: Checker | undefined;

  /** @param alone ignore the findings of all other checkers. */
  constructor(world: World, alone?: Checker) {
    this.world = world;
    this.#alone = alone;
  }

  find(checker: Checker, sentence: string): void {
    if (this.#alone === undefined || this.#alone === checker) this.findings.push({ checker, sentence });
  }

  saw(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  /** By the rules alone: can this request lease this proxy at that moment? */
  isEligible(proxy: BookProxy, request: Wanted, at: number): boolean {
    if (!this.matches(proxy, request) || !this.hasRoom(proxy, request.minUses, at)) return false;
    if (request.token === true && !this.book.tokens.isGood(proxy.id, at)) return false;
    const { holder, session } = this.book.rules;
    const held = [...this.book.open].filter((lease) => lease.request.holder === request.holder).length;
    if (request.holder !== undefined && holder.leasesMax !== null && held >= holder.leasesMax) return false;
    if (request.session !== undefined && !this.book.sessions.hasRoom(request.session, session.max)) return false;
    const bound = this.boundProxy(request, at);
    return bound === undefined || bound === proxy;
  }

  /** The proxy that the request's session is bound to, if it matches the request and does not rest for too long. */
  boundProxy(request: Wanted, at: number): BookProxy | undefined {
    const { sessions, rules } = this.book;
    const { ttlMs, patienceMs } = rules.session;
    const proxy = request.session === undefined ? undefined : sessions.proxyOf(request.session, { at, ttlMs });
    if (proxy === undefined || !this.matches(proxy, request)) return undefined;
    const { rates, usage } = proxy.account;
    const canServe =
      rates.every(({ limit }) => request.minUses <= limit) && request.minUses <= (usage?.limit ?? Infinity);
    return canServe && this.#restEnd(proxy, at) - at <= patienceMs ? proxy : undefined;
  }

  /** Failures of older epochs cause another rest when the present one ends. */
  #restEnd(proxy: BookProxy, at: number): number {
    const { rules } = this.book;
    const until = Math.max(proxy.resting ? proxy.until : 0, proxy.account.restUntil);
    const { failures } = rules;
    if (until <= at || failures === null) return until;
    const count = proxy.failures.filter((failedAt) => failedAt > until - failures.windowMs).length;
    return count > failures.limit ? until + failures.restMs : until;
  }

  matches(proxy: BookProxy, request: Wanted): boolean {
    if (proxy.retired || request.exclude?.includes(proxy.id) === true) return false;
    if (request.schemes !== undefined && !request.schemes.includes(proxy.scheme)) return false;
    return Object.entries(request.labels ?? {}).every(([key, value]) => proxy.labels[key] === value);
  }

  hasRoom(proxy: BookProxy, minUses: number, at: number): boolean {
    const { account } = proxy;
    if (proxy.resting || account.restUntil > at || account.open.size >= account.concurrency) return false;
    if (account.isAtBytes(at)) return false;
    if (account.usage !== null && account.usesSinceRest + minUses > account.usage.limit) return false;
    return account.rates.every(({ limit, windowMs }) => this.occupied(proxy, windowMs, at) + minUses <= limit);
  }

  occupied(proxy: BookProxy, windowMs: number, at: number): number {
    return proxy.account.occupied(windowMs, at, this.book.rules.marginMs);
  }
}

/** A short name, still different from all others. */
export const short = (id: string): string => id.slice(0, 8);
