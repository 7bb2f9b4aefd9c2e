// Checks a ledger's leases: each grant against every limit in force at that moment, each end against the reports, each
// slot against the latest moment at which the target can have seen the request.
import type { LeaseClosed, LeaseGranted, LeaseRenewed } from "../../../events/lease.ts";
import type { Brake } from "./brakes.ts";
import { isSpentAwake } from "./causes.ts";
import { moves } from "./chart.ts";
import {
  type ExitModel,
  highestReported,
  isResting,
  type LeaseModel,
  type ProxyModel,
  reportedOf,
} from "./entities.ts";
import { fill, fullWindow, giveBack } from "./filled.ts";
import { graceOf, type Model } from "./model.ts";
import { countingExits, leasesOf, quotaOf } from "./past.ts";
import { checkRanking, hasTurn } from "./ranking.ts";
import { checkRequest, siblingsOf } from "./requests.ts";
import { checkTokenGiven } from "./tokens.ts";

export function checkGrant(model: Model, event: LeaseGranted, brakes: readonly Brake[]): void {
  const { findings, policy, at } = model;
  const proxy = model.proxies.get(event.proxyId);
  if (proxy === undefined || policy === undefined) {
    return findings.add(
      "request",
      `${event.leaseId} is a lease of ${event.proxyId}, which is not a proxy of this pool`,
    );
  }
  const { exit } = proxy;
  const { uses, leaseId } = event;
  if (isResting(proxy)) {
    findings.add(
      "rest",
      `${leaseId} is granted on ${proxy.id}, which rests (${proxy.reasons.join(", ")}) until ${proxy.until}`,
    );
  } else if (proxy.state === "retired") findings.add("rest", `${leaseId} is granted on ${proxy.id}, which is retired`);
  else moves(model, proxy, event, "in-use");
  if (exit.restUntil > at)
    findings.add("rest", `${leaseId} is granted through exit ${exit.key}, which rests until ${exit.restUntil}`);
  if (!model.isOpen || model.isDraining)
    findings.add("pool", `${leaseId} is granted while the pool is closed or closing`);
  if (at < model.restored.until)
    findings.add("pool", `${leaseId} is granted before ${model.restored.until}, after the ledger was restored`);
  if (event.epoch !== proxy.epoch)
    findings.add("epoch", `${leaseId} is of epoch ${event.epoch}, and ${proxy.id} is in ${proxy.epoch}`);
  checkRequest(model, event, proxy);
  checkTokenGiven(model, event, proxy);
  checkLimits(model, event, proxy);
  checkRanking(model, event, proxy, brakes);

  const held = event.slotAt === undefined ? uses : 0;
  if ((policy.countFrom === "grant") !== (event.slotAt !== undefined) || (event.slotAt ?? at) !== at) {
    findings.add("slot", `${leaseId}: its slots must run from the ${policy.countFrom}`);
  }
  const { requestId, holder, session } = event.request;
  const lease: LeaseModel = {
    id: leaseId,
    proxy,
    exit,
    uses,
    epoch: event.epoch,
    grantedAt: at,
    requestId,
    siblings: undefined,
    holder,
    session,
    graceMs: policy.lease.graceMs,
    expiresAt: event.expiresAt,
    held,
    shadow: uses - held,
    reportedTo: 0,
    beyond: undefined,
    isFinal: false,
    closedAt: 0,
    used: 0,
    closedSlotAt: 0,
  };
  exit.bases.dropBefore(Math.min(at - model.keepMs(exit), at));
  if (!model.granted(lease)) findings.add("request", `${leaseId} is granted twice`);
  model.expiries.add(event.expiresAt, lease);
  const first = siblingsOf(model, event)[0];
  if (first !== undefined) {
    first.siblings ??= [first];
    first.siblings.push(lease);
    lease.siblings = first.siblings;
  } else if (requestId !== undefined) model.requests.set(requestId, lease);
  if (holder !== undefined) model.holders.set(holder, (model.holders.get(holder) ?? 0) + 1);
  if (session !== undefined) {
    model.sessions.grant(session, proxy.id, at);
    model.sessions.forgetSurplus(policy.session.max);
  }
  fill(model, exit, () => {
    exit.held += held;
    if (held === 0) exit.bases.insert(at, uses);
  });
  exit.leases++;
  if (held === 0) {
    exit.shadow.bases.dropBefore(at - model.keepMs(exit));
    exit.shadow.held += uses;
  }
  exit.usesSinceRest += uses;
  proxy.usedOrder = model.nextOrder++;
  if (!hasTurn(model, proxy)) proxy.turnOrder = proxy.usedOrder;
  proxy.openLeases++;
  proxy.granted += uses;
  proxy.lastUsedAt = at;
  const { tally } = model;
  if (!tally.silent) {
    tally.granted++;
    tally.usesGranted += uses;
  }
}

function checkLimits(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings, at } = model;
  const { uses, leaseId } = event;
  const { exit } = proxy;
  let left = event.request.uses ?? 1;
  if (exit.members.length > 1) model.forgetRetiredOf(exit);
  for (const window of exit.limits.rates) {
    const slots = model.occupied(exit, window.windowMs) + uses;
    // The number of requests that the target can have seen does not depend on the margin, nor on when slots begin under
    // the policy.
    const which = (each: ExitModel) => (model.policy?.countFrom === "grant" ? each.shadow : each);
    const seen = model.heldOf(exit, which) + model.slotsFrom(exit, at - window.windowMs, which) + uses;
    model.tally.peak(exit.peaks, exit.key, window, slots, seen, findings.place);
    left = model.knowsAll(exit, window.windowMs) ? Math.min(left, window.limit - slots + uses) : uses;
    if (slots <= window.limit) continue;
    const most = `${slots} uses of exit ${exit.key} within ${window.windowMs} ms (limit ${window.limit})`;
    findings.add("rate", `with ${leaseId} there are ${most}`);
  }
  const open = leasesOf(exit) + 1;
  if (open > exit.limits.concurrency) {
    findings.add(
      "concurrency",
      `with ${leaseId} ${open} leases of exit ${exit.key} are open (limit ${exit.limits.concurrency})`,
    );
  }
  const { usage } = exit.limits;
  if (usage !== undefined && quotaOf(exit) + uses > usage.limit) {
    findings.add(
      "usage",
      `with ${leaseId} exit ${exit.key} has ${quotaOf(exit) + uses} uses in its usage quota (limit ${usage.limit})`,
    );
  }
  if (usage !== undefined) left = Math.min(left, usage.limit - quotaOf(exit));
  if (uses < left) findings.add("request", `${leaseId} has ${uses} uses, and ${left} could have been granted`);
}

/** A request is repeated as long as one of its leases is open. */
function forgetRequest({ requests }: Model, lease: LeaseModel): void {
  const { requestId = "" } = lease;
  const known = requests.get(requestId);
  const siblings = known?.siblings ?? (known === undefined ? [] : [known]);
  if (siblings.includes(lease) && siblings.every(({ closedAt }) => closedAt !== 0)) requests.delete(requestId);
}

export function checkRenewal(model: Model, event: LeaseRenewed): void {
  const { findings, at } = model;
  const lease = model.openLease(event.leaseId);
  if (lease === undefined || lease.expiresAt <= at) {
    return findings.add("expiry", `${event.leaseId} is renewed, but is not an open lease`);
  }
  const ttlMsMax = model.policy?.lease.ttlMsMax ?? 0;
  if (event.expiresAt <= lease.expiresAt || event.expiresAt > at + ttlMsMax) {
    findings.add(
      "expiry",
      `${lease.id} is renewed from ${lease.expiresAt} to ${event.expiresAt} (at most ${ttlMsMax} ms from now)`,
    );
  }
  lease.expiresAt = event.expiresAt;
  model.expiries.add(event.expiresAt, lease);
  if (!model.tally.silent) model.tally.renewed++;
}

export function checkClosing(model: Model, event: LeaseClosed): void {
  const { findings, at } = model;
  const lease = model.openLease(event.leaseId);
  if (lease === undefined || lease.proxy.id !== event.proxyId) {
    return findings.add("closing", `${event.leaseId} is closed, but is not an open lease of ${event.proxyId}`);
  }
  const { proxy, exit } = lease;
  const { used } = event;
  const before = proxy.state;
  moves(model, proxy, event, before === "in-use" ? (proxy.openLeases > 1 ? "in-use" : "available") : before);
  checkEnd(model, event, lease);

  const unreported = used - reportedOf(lease, used);
  const filled = [];
  if (used < lease.uses)
    for (const each of countingExits(exit)) if (each.filled) filled.push({ each, full: fullWindow(model, each) });
  exit.leases--;
  exit.held -= lease.held;
  if (lease.held > 0) {
    lease.held = unreported;
    if (unreported > 0) exit.bases.insert(event.slotAt, unreported);
  } else if (used < lease.uses) exit.bases.take(lease.grantedAt, lease.uses - used);
  for (const { each, full } of filled) giveBack(model, each, full);
  if (lease.shadow > 0) {
    exit.shadow.held -= lease.shadow;
    exit.shadow.bases.insert(event.slotAt, Math.max(0, unreported));
    lease.shadow = 0;
  }
  exit.usesSinceRest -= lease.uses - used;
  exit.lastClosedAt = at;
  proxy.openLeases--;
  proxy.lastClosedAt = at;
  proxy.stackOrder = model.nextOrder++;
  lease.closedAt = at;
  lease.used = used;
  lease.closedSlotAt = event.slotAt;
  if (lease.holder !== undefined) {
    const left = (model.holders.get(lease.holder) ?? 1) - 1;
    if (left === 0) model.holders.delete(lease.holder);
    else model.holders.set(lease.holder, left);
  }
  if (lease.session !== undefined) model.sessions.end(lease.session, at);
  forgetRequest(model, lease);
  lease.requestId = lease.holder = lease.session = undefined;
  model.closed(lease);
  if (exit.leases === 0) for (const each of countingExits(exit)) if (isSpentAwake(each)) model.mayBeSpent.add(each);
  const { tally } = model;
  if (tally.silent) return;
  tally.count(tally.closed, event.how);
  tally.usesReturned += lease.uses - used;
  tally.usesUnreported += unreported;
}

function checkEnd(model: Model, event: LeaseClosed, lease: LeaseModel): void {
  const { findings, at } = model;
  const graceMs = graceOf(model, lease);
  const { how, used } = event;
  const endedAt = how === "expired" ? lease.expiresAt : at;
  if (event.slotAt !== endedAt + graceMs) {
    findings.add(
      "slot",
      `${lease.id} ended at ${endedAt}: its unreported uses hold their slots until ${endedAt + graceMs}, not ${event.slotAt}`,
    );
  }
  const { restored } = model;
  const isRestored = at < restored.until && lease.grantedAt <= restored.at; // It may end before its time.
  if (
    how === "expired"
      ? (lease.expiresAt > at && !isRestored) || used !== lease.uses
      : how === "released" && lease.expiresAt <= at
  ) {
    findings.add("closing", `${lease.id} (until ${lease.expiresAt}) is ${how} with ${used} of ${lease.uses} uses`);
  }
  const least = Math.min(highestReported(lease), lease.uses);
  if (!(Number.isSafeInteger(used) && used >= least && used <= lease.uses)) {
    findings.add("closing", `${lease.id} is ${how} with ${used} uses, and ${least} of ${lease.uses} are reported`);
  }
  if (how !== "completed" || lease.reportedTo >= lease.uses) return;
  if (!lease.isFinal) model.endedEarly.push(lease);
  else if (used > least)
    findings.add("closing", `${lease.id} is completed with ${used} uses, and its worker made ${least}`);
}

/** Uses that were not counted from the grant hold their slots from now on, until they are reported. */
export function holdUnreported(model: Model): void {
  for (const lease of model.leases.values()) {
    if (lease.closedAt !== 0) continue;
    const unreported = lease.uses - reportedOf(lease, lease.uses);
    lease.exit.held += unreported - lease.held;
    lease.exit.bases.take(lease.grantedAt, unreported - lease.held);
    lease.held = unreported;
  }
}
