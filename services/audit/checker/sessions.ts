// Sessions, written down a second time from the rules: a name is bound to the proxy of its last grant, until `ttlMs` after
// the end of its last lease. A wish under a bound name gets that proxy, unless it is retired, rests for longer than
// `patienceMs`, or is not what the wish asks for.
import type { LeaseGranted, Wish } from "../../../events/lease.ts";
import type { ExitModel, Model, ProxyModel } from "./model.ts";
import { tooManyFailures } from "./outcomes.ts";

interface Session {
  proxyId: string;
  open: number;
  usedAt: number;
}

export class Sessions {
  readonly #all = new Map<string, Session>();
  /** Names without an open lease, in the order in which they became so. */
  readonly #idle = new Set<string>();

  get size(): number {
    return this.#all.size;
  }

  get idle(): number {
    return this.#idle.size;
  }

  proxyOf(name: string): string | undefined {
    return this.#all.get(name)?.proxyId;
  }

  grant(name: string, proxyId: string, at: number): void {
    const session = this.#all.get(name);
    if (session === undefined) this.#all.set(name, { proxyId, open: 1, usedAt: at });
    else {
      session.proxyId = proxyId;
      session.usedAt = at;
      session.open++;
    }
    this.#idle.delete(name);
  }

  end(name: string, at: number): void {
    const session = this.#all.get(name);
    if (session === undefined) return;
    session.usedAt = at;
    if (--session.open === 0) this.#idle.add(name);
  }

  forget({ at, ttlMs }: { at: number; ttlMs: number }): void {
    for (const name of this.#idle) {
      if (this.#all.get(name)!.usedAt + ttlMs > at) return; // Idle ones are known.
      this.#drop(name);
    }
  }

  /** Those idle for longest go, where there are more than may be. */
  forgetSurplus(max: number): void {
    for (const name of this.#idle) {
      if (this.#all.size <= max) return;
      this.#drop(name);
    }
  }

  #drop(name: string): void {
    this.#idle.delete(name);
    this.#all.delete(name);
  }
}

/** Before the lease is counted. */
export function judgeSession(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { session: name } = event.wish;
  if (name === undefined) return;
  const { sessions, findings } = model;
  const policy = model.policy!; // Asked for before.
  const boundId = sessions.proxyOf(name);
  if (boundId === undefined) {
    if (sessions.size >= policy.session.max && sessions.idle === 0)
      findings.add("session", `${event.leaseId} begins session ${sessions.size + 1} (at most ${policy.session.max})`);
    return;
  }
  const bound = model.proxies.get(boundId);
  if (bound === undefined || bound === proxy || bound.state === "retired" || !answers(event.wish, bound)) return;
  if (restEnd(model, bound) - model.at > policy.session.patienceMs) return;
  findings.add(
    "session",
    `${event.leaseId} of the session ${name} is of ${proxy.id}, and the session is bound to ${boundId}`,
  );
}

/** Is it what the wish asks for, resting or not? */
export function answers(wish: Wish, proxy: ProxyModel): boolean {
  if (wish.exclude?.includes(proxy.id) === true) return false;
  if (wish.schemes !== undefined && !wish.schemes.some((scheme) => scheme === proxy.scheme)) return false;
  for (const name in wish.labels) if (proxy.labels[name] !== wish.labels[name]) return false;
  return couldServe(proxy.exit, wish.minUses ?? 1);
}

function couldServe({ limits }: ExitModel, uses: number): boolean {
  return limits.rates.every((rate) => uses <= rate.limit) && (limits.usage === undefined || uses <= limits.usage.limit);
}

/** A rest for failures that will be judged at its end is counted with it. */
function restEnd(model: Model, proxy: ProxyModel): number {
  const until = Math.max(proxy.until, proxy.exit.restUntil);
  if (until <= model.at || !tooManyFailures(model, proxy, until)) return until;
  return until + (model.policy?.failures?.restMs ?? 0);
}
