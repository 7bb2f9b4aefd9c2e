// The fold applies an event to the state. The result depends on these two alone. The fold records; it never refuses and
// never checks limits. An event that the chart does not accept is a bug or a damaged ledger, so it throws.

import { type CommitEnvelope, NewerFormat } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import type { LeaseClosed, LeaseGranted } from "../../events/lease.ts";
import type { UseReported } from "../../events/outcome.ts";
import { addedLater } from "../../events/policy.ts";
import type { PolicyChanged, PoolOpened } from "../../events/pool.ts";
import { dropEvidence, learn } from "../candidates/evidence.ts";
import { fullWindow, giveBack, spentWindow, wider } from "../candidates/spent.ts";
import { hasTurn } from "../candidates/strategies.ts";
import { countReport, forgetWhatRanOut } from "../rules/exit.ts";
import { addFailure } from "../rules/failures.ts";
import { hold, letGo } from "../rules/holder.ts";
import { compileRules, limitExits } from "../rules/limits.ts";
import { keepSlotsMs } from "../rules/rate.ts";
import { bind, endLease, forgetSessions } from "../rules/session.ts";
import { holdUnreported, regroup } from "./account.ts";
import { forgetWhatHasRunOut, planAnew, planToForget, replanExit } from "./forget.ts";
import { countingExits, isFormer } from "./past.ts";
import { addProxy, beginRest, changeProxy, endRest, move, retireProxy } from "./proxy.ts";
import type { Lease, PoolState } from "./state.ts";
import { advanceTokens, foldToken, regroupTokens, tokenGiven } from "./token.ts";
import { markReported, reportedUpTo } from "./uses.ts";

/** Folds a whole commit, as a reader of the ledger does. Throws if the commit does not follow the state. */
export function foldCommit(state: PoolState, commit: CommitEnvelope): void {
  if (commit.n !== state.commits + 1) throw new Error(`commit ${commit.n} follows commit ${state.commits}`);
  if (commit.at < state.at)
    throw new Error(`commit ${commit.n} has the time ${commit.at}, before its predecessor's ${state.at}`);
  advance(state, commit.at);
  for (const event of commit.events) evolve(state, event as Event); // Its type is checked by the switch.
  endCommit(state, commit);
}

/** Advances the time, and forgets what has run out. The result is the same however many steps it takes. */
export function advance(state: PoolState, at: number): void {
  state.at = at;
  forgetWhatHasRunOut(state);
  advanceTokens(state);
}

/** The effect of a commit's head, after its events. */
export function endCommit(state: PoolState, head: Pick<CommitEnvelope, "n" | "cursor">): void {
  state.commits = head.n;
  state.cursor = head.cursor;
}

export function evolve(state: PoolState, event: Event): void {
  switch (event.type) {
    case "PoolOpened":
      return openPool(state, event);
    case "PolicyChanged":
      return changePolicy(state, event);
    case "PoolClosed":
      if (event.draining) state.draining = true;
      else state.opened = false;
      return;
    case "LeaderClaimed":
      state.leader = event.leader;
      state.term = event.term;
      state.writtenBy = event.version ?? "";
      return;
    case "ProxyAdded":
      return addProxy(state, event);
    case "ProxyChanged":
      return changeProxy(state, event);
    case "ProxyRetired":
      return retireProxy(state, event);
    case "RestBegan":
      return beginRest(state, event);
    case "RestEnded":
      return endRest(state, event);
    case "LeaseGranted":
      return grantLease(state, event);
    case "LeaseRenewed": {
      const lease = openLease(state, event.leaseId);
      lease.expiresAt = event.expiresAt;
      state.expiries.set(lease);
      return touch(state, lease);
    }
    case "LeaseClosed":
      return closeLease(state, event);
    case "UseReported":
      return reportUse(state, event);
    case "RequestsRefused":
      state.refused[event.code] = (state.refused[event.code] ?? 0) + event.count;
      return;
    case "OutcomesIgnored":
      state.totals.ignored += event.count;
      return;
    case "TokenRequested":
    case "TokenMinted":
    case "TokenRefused":
    case "TokenRejected":
      return foldToken(state, event);
    case "HeadSigned":
      state.head = { n: event.n, at: state.at };
      return;
    case "SegmentArchived":
      state.archived = { n: event.last, sequence: event.sequence };
      return;
    case "LedgerRestored":
      state.restored = { last: event.last, at: state.at, until: event.until };
      state.archived = { n: event.last, sequence: event.sequence };
      return;
    default:
      return ignoreOnlyInert(event);
  }
}

function ignoreOnlyInert(event: never): void {
  const stranger = event as { type?: unknown; inert?: unknown };
  if (stranger.inert !== true) throw new NewerFormat(`the event ${String(stranger.type)} is not known`);
}

function openPool(state: PoolState, event: PoolOpened): void {
  state.opened = true;
  state.draining = false;
  state.openedAt = state.at;
  state.openedBy = event.by;
  state.keyFingerprint = event.keyFingerprint;
  changePolicy(state, event);
}

function changePolicy(state: PoolState, event: PolicyChanged | PoolOpened): void {
  const before = state.rules.policy;
  const policy = { ...addedLater, ...event.policy };
  forgetWhatRanOut(state, policy);
  state.rules = compileRules(policy);
  state.policyVersion = event.version;
  if (event.policy.limitBy !== before.limitBy) regroup(state);
  if (event.policy.countFrom === "report" && before.countFrom === "grant") holdUnreported(state);
  if (before.strategy.kind === "bandit") dropEvidence(state);
  limitExits(state);
  planAnew(state);
  forgetSessions(state);
  regroupTokens(state);
  state.everythingChanged();
}

function grantLease(state: PoolState, event: LeaseGranted): void {
  const proxy = move(state, event);
  const exit = proxy.account;
  const lease: Lease = {
    id: event.leaseId,
    proxy,
    exit,
    user: event.user,
    uses: event.uses,
    epoch: event.epoch,
    grantedAt: state.at,
    expiresAt: event.expiresAt,
    request: event.request,
    graceMs: state.rules.policy.lease.graceMs,
    slots: event.slotAt === undefined ? event.uses : 0,
    reportedTo: 0,
    reportedMore: [],
    closed: null,
    token: tokenGiven(state, event.tokenId),
    siblings: null,
    expiryPlace: -1,
  };
  if (event.with !== undefined) join(lease, openLease(state, event.with));
  const spent = spentWindow(state, exit);
  exit.slots.prune(state.at - keepSlotsMs(state, exit));
  state.leases.set(lease.id, lease);
  state.expiries.set(lease);
  if (event.request.requestId !== undefined && event.with === undefined)
    state.requests.set(event.request.requestId, lease);
  exit.leases.push(lease);
  exit.openUses += lease.slots;
  if (event.slotAt !== undefined) exit.slots.add(event.slotAt, event.uses);
  exit.usesSinceRest += event.uses;
  exit.spent = wider(spent, fullWindow(state, exit));
  const { holder, session } = event.request;
  if (holder !== undefined) hold(state, holder, lease);
  if (session !== undefined) bind(state, session, lease);
  proxy.openLeases++;
  const goesOn = hasTurn(state, proxy);
  proxy.granted += event.uses;
  proxy.lastUsedAt = state.at;
  proxy.usedOrder = state.nextOrder++;
  if (!goesOn) proxy.turnOrder = proxy.usedOrder;
  state.totals.granted++;
  state.exitChanged(exit);
}

function reportUse(state: PoolState, event: UseReported): void {
  const lease = state.leases.get(event.leaseId) ?? state.closedLeases.get(event.leaseId);
  if (lease === undefined) throw new Error(`a use of ${event.leaseId}, which is not known`);
  const { proxy, exit } = lease;
  markReported(lease, event.n);
  if (event.over !== undefined) {
    if (event.slotAt !== undefined) exit.slots.add(event.slotAt);
    if (event.late === undefined) {
      exit.usesSinceRest++;
      exit.lastClosedAt = state.at;
    }
  } else {
    if (event.slotAt !== undefined && lease.slots > 0) {
      lease.slots--;
      if (lease.closed === null) exit.openUses--;
      else exit.slots.remove(lease.closed.slotAt);
      exit.slots.add(event.slotAt);
    }
    if (lease.closed !== null) proxy.unreported--;
  }
  if (!isFormer(exit)) exit.slots.prune(state.at - keepSlotsMs(state, exit)); // The exits that count a former exit prune its slots.
  countReport(state, exit, event);
  if (event.counts) addFailure(state, proxy, Math.min(event.storedAt, state.at));
  proxy.score = event.score;
  proxy.streak = event.streak;
  const counted = event.result === "success" ? "succeeded" : event.result === "failure" ? "failed" : "neutral";
  proxy[counted]++;
  state.totals[counted]++;
  learn(state, proxy, event);
  touch(state, lease);
}

function closeLease(state: PoolState, event: LeaseClosed): void {
  const lease = openLease(state, event.leaseId);
  const { proxy, exit } = lease;
  proxy.openLeases--;
  move(state, event, proxy);
  const unreported = event.used - reportedUpTo(lease, event.used);
  state.leases.delete(lease.id);
  state.expiries.delete(lease);
  const { requestId, holder, session } = lease.request ?? {};
  if (holder !== undefined) letGo(state, holder, lease);
  if (session !== undefined) endLease(state, session, lease);
  // A newer lease may have this id, if it was granted after this one had ended and before it was closed.
  const sibling = leave(lease);
  if (requestId !== undefined && state.requests.get(requestId) === lease) {
    if (sibling === undefined) state.requests.delete(requestId);
    else state.requests.set(requestId, sibling);
  }
  exit.leases.splice(exit.leases.indexOf(lease), 1);
  const filled =
    event.used === lease.uses ? [] : [...countingExits(exit)].map((each) => ({ each, full: fullWindow(state, each) }));
  exit.openUses -= lease.slots;
  if (lease.slots > 0) {
    lease.slots = unreported;
    if (unreported > 0) exit.slots.add(event.slotAt, unreported);
  } else {
    exit.slots.remove(lease.grantedAt, lease.uses - event.used); // Counted from the grant, and not made.
  }
  for (const { each, full } of filled) giveBack(state, each, full);
  exit.usesSinceRest -= lease.uses - event.used;
  exit.lastClosedAt = state.at;
  proxy.unreported += unreported;
  proxy.lastClosedAt = state.at;
  proxy.stackOrder = state.nextOrder++;
  lease.request = null;
  lease.closed = { how: event.how, used: event.used, at: state.at, slotAt: event.slotAt };
  state.closedLeases.set(lease.id, lease);
  if (event.how === "expired") state.totals.expired++;
  if (proxy.state === "retired") planToForget(state, proxy);
  touch(state, lease);
}

function join(lease: Lease, first: Lease): void {
  first.siblings ??= [first];
  first.siblings.push(lease);
  lease.siblings = first.siblings;
}

/** Another open lease of its request, if there is one. */
function leave(lease: Lease): Lease | undefined {
  const { siblings } = lease;
  if (siblings === null) return undefined;
  siblings.splice(siblings.indexOf(lease), 1);
  lease.siblings = null;
  return siblings[0];
}

function touch(state: PoolState, lease: Lease): void {
  state.proxyChanged(lease.proxy);
  replanExit(state, lease.exit);
  state.exitChanged(lease.exit);
}

function openLease(state: PoolState, id: string): Lease {
  const lease = state.leases.get(id);
  if (lease === undefined) throw new Error(`${id} is not an open lease`);
  return lease;
}
