// Judging a grant by the lease request that it answers: its uses, its proxy, its session.
import type { LeaseGranted, Wish } from "../../../events/lease.ts";
import { tooManyFailures } from "./causes.ts";
import type { ExitModel, ProxyModel } from "./entities.ts";
import { usesMaxOf } from "./limits.ts";
import type { Model } from "./model.ts";

/** Before the lease is counted. */
export function judgeRequest(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings, at } = model;
  const { wish, uses, leaseId } = event;
  const policy = model.policy!; // Asked for before.
  const wished = wish.uses ?? 1;
  const least = wish.minUses ?? 1;
  if (!(Number.isSafeInteger(uses) && uses >= 1 && uses >= least && uses <= wished)) {
    findings.add("wish", `${leaseId} has ${uses} uses, and ${least} to ${wished} were wished for`);
  }
  const most = wished > 1 ? usesMaxOf(policy) : 1;
  if (wished > most)
    findings.add("wish", `${leaseId} is of a wish for ${wished} uses, and at most ${most} can ever be granted`);
  const ttlMs = wish.ttlMs ?? policy.lease.ttlMs;
  if (event.expiresAt !== at + ttlMs)
    findings.add("expiry", `${leaseId} expires at ${event.expiresAt}, not at ${at + ttlMs}`);
  if (ttlMs > policy.lease.ttlMsMax)
    findings.add("expiry", `${leaseId} is for ${ttlMs} ms (at most ${policy.lease.ttlMsMax})`);
  if (event.strategy !== policy.strategy.kind) {
    findings.add("wish", `${leaseId} was chosen by ${event.strategy}, and the policy says ${policy.strategy.kind}`);
  }
  if (wish.schemes !== undefined && !wish.schemes.some((scheme) => scheme === proxy.scheme)) {
    findings.add(
      "wish",
      `${leaseId} is of ${proxy.id} (${proxy.scheme}), and ${wish.schemes.join(", ")} was wished for`,
    );
  }
  for (const name in wish.labels) {
    const value = wish.labels[name];
    if (proxy.labels[name] === value) continue;
    findings.add("wish", `${leaseId} is of ${proxy.id}, which has not the label ${name}=${value} that was wished for`);
  }
  if (wish.proxyId !== undefined && wish.proxyId !== proxy.id)
    findings.add("wish", `${leaseId} is of ${proxy.id}, and ${wish.proxyId} was wished for, or none`);
  if (wish.exclude?.includes(proxy.id)) findings.add("wish", `${leaseId} is of ${proxy.id}, which the wish excludes`);
  const same = wish.requestId === undefined ? undefined : model.requests.get(wish.requestId);
  if (same !== undefined) same.requestId = undefined; // The name is the newer lease's from now on.
  if (same !== undefined && same.closedAt === 0 && same.expiresAt > at) {
    findings.add("request", `${leaseId} and ${same.id} are both open for the request ${wish.requestId}`);
  }
  const { leasesMax } = policy.holder;
  if (wish.holder !== undefined && leasesMax !== null) {
    const open = (model.holders.get(wish.holder) ?? 0) + 1;
    if (open > leasesMax) findings.add("holder", `${leaseId} is lease ${open} of its holder (at most ${leasesMax})`);
  }
  judgeSession(model, event, proxy);
}

function judgeSession(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
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
