// Checks a grant against its lease request: its uses, its proxy, its session.
import type { LeaseGranted, RecordedRequest } from "../../../events/lease.ts";
import { tooManyFailures } from "./causes.ts";
import type { ExitModel, LeaseModel, ProxyModel } from "./entities.ts";
import { usesMaxOf } from "./limits.ts";
import type { Model } from "./model.ts";

/** Called before the lease is counted. */
export function checkRequest(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings, at } = model;
  const { request, uses, leaseId } = event;
  const policy = model.policy!; // Checked before.
  const requested = request.uses ?? 1;
  const least = request.minUses ?? 1;
  if (!(Number.isSafeInteger(uses) && uses >= 1 && uses >= least && uses <= requested)) {
    findings.add("request", `${leaseId} has ${uses} uses, and ${least} to ${requested} were requested`);
  }
  const most = requested > 1 ? usesMaxOf(policy) : 1;
  if (requested > most)
    findings.add(
      "request",
      `${leaseId} is of a lease request for ${requested} uses, and at most ${most} can ever be granted`,
    );
  const ttlMs = request.ttlMs ?? policy.lease.ttlMs;
  if (event.expiresAt !== at + ttlMs)
    findings.add("expiry", `${leaseId} expires at ${event.expiresAt}, not at ${at + ttlMs}`);
  if (ttlMs > policy.lease.ttlMsMax)
    findings.add("expiry", `${leaseId} is for ${ttlMs} ms (at most ${policy.lease.ttlMsMax})`);
  if (event.strategy !== policy.strategy.kind) {
    findings.add("request", `${leaseId} was chosen by ${event.strategy}, and the policy says ${policy.strategy.kind}`);
  }
  if (request.schemes !== undefined && !request.schemes.some((scheme) => scheme === proxy.scheme)) {
    findings.add(
      "request",
      `${leaseId} is of ${proxy.id} (${proxy.scheme}), and ${request.schemes.join(", ")} was requested`,
    );
  }
  for (const name in request.labels) {
    const value = request.labels[name];
    if (proxy.labels[name] === value) continue;
    findings.add(
      "request",
      `${leaseId} is of ${proxy.id}, which does not have the label ${name}=${value} that was requested`,
    );
  }
  if (request.proxyId !== undefined && request.proxyId !== proxy.id)
    findings.add("request", `${leaseId} is of ${proxy.id}, and ${request.proxyId} was requested`);
  if (request.exclude?.includes(proxy.id))
    findings.add("request", `${leaseId} is of ${proxy.id}, which the request excludes`);
  if (event.with === undefined) checkRepeated(model, event);
  else checkSibling(model, event, proxy);
  const { leasesMax } = policy.holder;
  if (request.holder !== undefined && leasesMax !== null) {
    const open = (model.holders.get(request.holder) ?? 0) + 1;
    if (open > leasesMax) findings.add("holder", `${leaseId} is lease ${open} of its holder (at most ${leasesMax})`);
  }
  checkSession(model, event, proxy);
}

/** A request that is repeated gets its open leases, and no new one. */
function checkRepeated({ requests, findings, at }: Model, { leaseId, request: { requestId } }: LeaseGranted): void {
  const same = requestId === undefined ? undefined : requests.get(requestId);
  if (same === undefined) return;
  same.requestId = undefined; // The requestId belongs to the newer lease from now on.
  const open = (same.siblings ?? [same]).find(({ closedAt, expiresAt }) => closedAt === 0 && expiresAt > at);
  if (open !== undefined)
    findings.add("request", `${leaseId} and ${open.id} are both open for the request ${requestId}`);
}

/** Another lease of a request for several: at once, on another exit, and not more than were requested. */
function checkSibling(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings, at } = model;
  const { leaseId, request } = event;
  const siblings = siblingsOf(model, event);
  const [first] = siblings;
  if (first === undefined || first.grantedAt !== at || first.requestId !== request.requestId)
    return findings.add("request", `${leaseId} is granted with ${event.with}, which is no new lease of its request`);
  if (siblings.length >= (request.count ?? 1))
    findings.add(
      "request",
      `${leaseId} is lease ${siblings.length + 1} of its request, which asked for ${request.count ?? 1}`,
    );
  const alike = siblings.find(({ exit }) => exit === proxy.exit);
  if (alike !== undefined)
    findings.add("request", `${leaseId} has the exit ${proxy.exit.key}, like ${alike.id} of the same request`);
}

/** The leases of the event's request that were granted before it. */
export function siblingsOf(model: Model, { with: first }: LeaseGranted): readonly LeaseModel[] {
  const lease = first === undefined ? undefined : model.openLease(first);
  return lease === undefined ? [] : (lease.siblings ?? [lease]);
}

function checkSession(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { session: name } = event.request;
  if (name === undefined) return;
  const { sessions, findings } = model;
  const policy = model.policy!; // Checked before.
  const boundId = sessions.proxyOf(name);
  if (boundId === undefined) {
    if (sessions.size >= policy.session.max && sessions.idle === 0)
      findings.add("session", `${event.leaseId} begins session ${sessions.size + 1} (at most ${policy.session.max})`);
    return;
  }
  const bound = boundProxy(model, event.request);
  if (bound === undefined || bound === proxy) return;
  findings.add(
    "session",
    `${event.leaseId} of the session ${name} is of ${proxy.id}, and the session is bound to ${boundId}`,
  );
}

/** The proxy that the request's session is bound to, if it matches the request and does not rest for too long. */
export function boundProxy(model: Model, request: RecordedRequest): ProxyModel | undefined {
  const boundId = request.session === undefined ? undefined : model.sessions.proxyOf(request.session);
  const bound = boundId === undefined ? undefined : model.proxies.get(boundId);
  if (bound === undefined || bound.state === "retired" || !answers(request, bound)) return undefined;
  const patienceMs = model.policy?.session.patienceMs ?? 0;
  return restEnd(model, bound) - model.at > patienceMs ? undefined : bound;
}

/** Does the proxy match the request, resting or not? */
export function answers(request: RecordedRequest, proxy: ProxyModel): boolean {
  if (request.exclude?.includes(proxy.id) === true) return false;
  if (request.schemes !== undefined && !request.schemes.some((scheme) => scheme === proxy.scheme)) return false;
  for (const name in request.labels) if (proxy.labels[name] !== request.labels[name]) return false;
  return couldServe(proxy.exit, request.minUses ?? 1);
}

function couldServe({ limits }: ExitModel, uses: number): boolean {
  return limits.rates.every((rate) => uses <= rate.limit) && (limits.usage === undefined || uses <= limits.usage.limit);
}

/** Includes a rest for failures that will be counted at its end. */
function restEnd(model: Model, proxy: ProxyModel): number {
  const until = Math.max(proxy.until, proxy.exit.restUntil);
  if (until <= model.at || !tooManyFailures(model, proxy, until)) return until;
  return until + (model.policy?.failures?.restMs ?? 0);
}
