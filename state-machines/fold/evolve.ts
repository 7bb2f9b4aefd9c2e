// The fold: what each fact does to the state. It records; it never refuses and never judges. What an event does depends
// on the state and the event alone. An event that the chart does not accept is a bug or a damaged ledger: it throws.
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event, MovingEvent } from "../../events/event.ts";
import type { LeaseClosed, LeaseGranted } from "../../events/lease.ts";
import type { UseReported } from "../../events/outcome.ts";
import type { PolicyChanged, PoolOpened } from "../../events/pool.ts";
import type { ProxyAdded, ProxyChanged, RestBegan } from "../../events/proxy.ts";
import { dropEvidence, learn } from "../candidates/evidence.ts";
import { fullWindow, giveBack, spentWindow, wider } from "../candidates/spent.ts";
import { hasTurn } from "../candidates/strategies.ts";
import { accepts } from "../machines/proxy.ts";
import { countReport, forgetWhatRanOut } from "../rules/exit.ts";
import { addFailure } from "../rules/failures.ts";
import { hold, letGo } from "../rules/holder.ts";
import { compileRules, limitExit, limitExits } from "../rules/limits.ts";
import { keepSlotsMs } from "../rules/rate.ts";
import { restRules } from "../rules/rests.ts";
import { bind, endLease, forgetSessions } from "../rules/session.ts";
import { accountKey, endUsageQuota, holdUnreported, joinExit, moveToExit, regroup, setLimits } from "./account.ts";
import { forgetWhatHasRunOut, planAnew, planToForget, replanExit, replanRetired } from "./forget.ts";
import { countingExits, isFormer } from "./past.ts";
import { type Exit, type Lease, type PoolState, type Proxy, spreadFrom } from "./state.ts";
import { advanceTokens, foldToken, regroupTokens, tokenGiven } from "./token.ts";
import { markReported, reportedUpTo } from "./uses.ts";

/** Folds a whole commit, as a reader of the ledger does. Throws where it cannot follow the state. */
export function foldCommit(state: PoolState, commit: CommitEnvelope): void {
  if (commit.n !== state.commits + 1) throw new Error(`commit ${commit.n} follows commit ${state.commits}`);
  if (commit.at < state.at) throw new Error(`commit ${commit.n} is of ${commit.at}, its predecessor of ${state.at}`);
  advance(state, commit.at);
  for (const event of commit.events) evolve(state, event as Event); // Its type is checked by the switch.
  endCommit(state, commit);
}

/** Time goes on. What has run out by then is forgotten, the same whether or not a commit marks each instant. */
export function advance(state: PoolState, at: number): void {
  state.at = at;
  forgetWhatHasRunOut(state);
  advanceTokens(state);
}

/** What the head of a commit does, after its events. */
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
      return;
    case "ProxyAdded":
      return addProxy(state, event);
    case "ProxyChanged":
      return changeProxy(state, event);
    case "ProxyRetired": {
      const proxy = move(state, event);
      proxy.retiredAt = state.at;
      state.rests.delete(proxy);
      limitExit(state, proxy.account);
      planToForget(state, proxy);
      return;
    }
    case "RestBegan":
      return beginRest(state, event);
    case "RestEnded": {
      const proxy = move(state, event);
      // Who wakes a proxy from its exit's rest wakes the exit; from a rest of its own, only the proxy.
      if (event.how === "revived" && proxy.reasons.includes("usage")) proxy.account.restUntil = 0;
      endRest(state, proxy);
      return;
    }
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
    case "WishesRefused":
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
    default:
      return ignoreOnlyInert(event);
  }
}

function ignoreOnlyInert(event: never): void {
  const stranger = event as { type?: unknown; inert?: unknown };
  if (stranger.inert !== true) throw new Error(`unknown event ${String(stranger.type)}`);
}

function openPool(state: PoolState, event: PoolOpened): void {
  state.opened = true;
  state.draining = false;
  state.openedAt = state.at;
  state.keyFingerprint = event.keyFingerprint;
  changePolicy(state, event);
}

function changePolicy(state: PoolState, event: PolicyChanged | PoolOpened): void {
  const before = state.rules.policy;
  forgetWhatRanOut(state);
  state.rules = compileRules(event.policy);
  state.policyVersion = event.version;
  if (event.policy.limitBy !== before.limitBy) regroup(state);
  if (event.policy.countFrom === "report" && before.countFrom === "grant") holdUnreported(state);
  if (before.strategy.kind === "bandit") dropEvidence(state);
  limitExits(state);
  planAnew(state);
  forgetSessions(state);
  regroupTokens(state);
  state.everythingMoved();
}

function addProxy(state: PoolState, event: ProxyAdded): void {
  const known = state.proxies.get(event.proxyId);
  const key = accountKey(state, event.proxyId, event.exit);
  const account = state.exitFor(key);
  const order = state.nextOrder++;
  const proxy: Proxy = known ?? newProxy(event, account, order);
  if (known === undefined) {
    state.proxies.set(proxy.id, proxy);
    state.ids.add(proxy.id);
    state.byState.retired++;
    joinExit(account, proxy);
    replanRetired(state, account);
  } else if (proxy.account !== account) moveToExit(state, proxy, account);
  move(state, event);
  proxy.exit = event.exit;
  proxy.labels = event.labels;
  setLimits(proxy, event.limits);
  proxy.until = event.until ?? 0;
  proxy.reasons = event.reasons ?? [];
  proxy.epoch = event.epoch;
  proxy.score = 0;
  proxy.streak = 0;
  proxy.streakRests = 0;
  proxy.addedAt = state.at;
  proxy.retiredAt = 0;
  proxy.addedOrder = order;
  proxy.stackOrder = order;
  proxy.evidence = null;
  state.forgets.delete(proxy);
  if (event.state === "cooling" || event.state === "exhausted") state.rests.set(proxy);
  limitExit(state, account);
}

function newProxy(event: ProxyAdded, account: Exit, order: number): Proxy {
  return {
    id: event.proxyId,
    scheme: event.scheme,
    host: event.host,
    port: event.port,
    username: event.username,
    exit: event.exit,
    labels: event.labels,
    limits: undefined,
    account,
    state: "retired",
    until: 0,
    reasons: [],
    epoch: event.epoch,
    score: 0,
    streak: 0,
    streakRests: 0,
    failures: [],
    openLeases: 0,
    granted: 0,
    succeeded: 0,
    failed: 0,
    neutral: 0,
    unreported: 0,
    addedAt: 0,
    retiredAt: 0,
    lastUsedAt: 0,
    lastClosedAt: 0,
    addedOrder: order,
    usedOrder: 0,
    stackOrder: order,
    turnOrder: 0,
    evidence: null,
    restPlace: -1,
    forgetPlace: -1,
    forgetAt: 0,
  };
}

function changeProxy(state: PoolState, event: ProxyChanged): void {
  const proxy = proxyOf(state, event.proxyId);
  proxy.exit = event.exit;
  proxy.labels = event.labels;
  setLimits(proxy, event.limits);
  const account = state.exitFor(accountKey(state, proxy.id, event.exit));
  if (account !== proxy.account) moveToExit(state, proxy, account);
  limitExit(state, account);
  state.proxyMoved(proxy); // Labels decide which indexes it answers.
}

function beginRest(state: PoolState, event: RestBegan): void {
  const proxy = move(state, event);
  // Only what causes the rest now is reset: reasons of a rest that is being lengthened have had their effect.
  const caused =
    proxy.until > state.at ? event.reasons.filter((reason) => !proxy.reasons.includes(reason)) : event.reasons;
  for (const reason of caused) restRules[reason].reset?.(proxy);
  proxy.epoch = event.epoch;
  proxy.until = event.until;
  proxy.reasons = event.reasons;
  state.rests.set(proxy);
  if (event.exitUntil !== undefined) {
    endUsageQuota(state, proxy.account);
    proxy.account.restUntil = Math.max(event.exitUntil, proxy.account.restUntil);
    if (proxy.account.members.length > spreadFrom) state.spreading.add(proxy.account);
    state.exitMoved(proxy.account);
  }
}

function endRest(state: PoolState, proxy: Proxy): void {
  proxy.until = 0;
  proxy.reasons = [];
  state.rests.delete(proxy);
}

function grantLease(state: PoolState, event: LeaseGranted): void {
  const proxy = move(state, event);
  const exit = proxy.account;
  const lease: Lease = {
    id: event.leaseId,
    proxy,
    exit,
    uses: event.uses,
    epoch: event.epoch,
    grantedAt: state.at,
    expiresAt: event.expiresAt,
    wish: event.wish,
    graceMs: state.rules.policy.lease.graceMs,
    slots: event.slotAt === undefined ? event.uses : 0,
    reportedTo: 0,
    reportedMore: [],
    closed: null,
    token: tokenGiven(state, event.tokenId),
    expiryPlace: -1,
  };
  const spent = spentWindow(state, exit);
  exit.slots.prune(state.at - keepSlotsMs(state, exit));
  state.leases.set(lease.id, lease);
  state.expiries.set(lease);
  if (event.wish.requestId !== undefined) state.requests.set(event.wish.requestId, lease);
  exit.leases.push(lease);
  exit.openUses += lease.slots;
  if (event.slotAt !== undefined) exit.slots.add(event.slotAt, event.uses);
  exit.usesSinceRest += event.uses;
  exit.spent = wider(spent, fullWindow(state, exit));
  const { holder, session } = event.wish;
  if (holder !== undefined) hold(state, holder, lease);
  if (session !== undefined) bind(state, session, lease);
  proxy.openLeases++;
  const goesOn = hasTurn(state, proxy);
  proxy.granted += event.uses;
  proxy.lastUsedAt = state.at;
  proxy.usedOrder = state.nextOrder++;
  if (!goesOn) proxy.turnOrder = proxy.usedOrder;
  state.totals.granted++;
  state.exitMoved(exit);
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
  if (!isFormer(exit)) exit.slots.prune(state.at - keepSlotsMs(state, exit)); // Others keep those as they need.
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
  const { requestId, holder, session } = lease.wish ?? {};
  if (holder !== undefined) letGo(state, holder, lease);
  if (session !== undefined) endLease(state, session, lease);
  // A newer lease may have been granted under it, when this one had ended and was not closed yet.
  if (requestId !== undefined && state.requests.get(requestId) === lease) state.requests.delete(requestId);
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
  lease.wish = null;
  lease.closed = { how: event.how, used: event.used, at: state.at, slotAt: event.slotAt };
  state.closedLeases.set(lease.id, lease);
  if (event.how === "expired") state.totals.expired++;
  if (proxy.state === "retired") planToForget(state, proxy);
  touch(state, lease);
}

/** Steps the proxy through the chart; every event that moves a proxy comes through here. */
function move(state: PoolState, event: MovingEvent, proxy = proxyOf(state, event.proxyId)): Proxy {
  if (proxy.id !== event.proxyId) throw new Error(`${event.type} is of ${event.proxyId}, its lease of ${proxy.id}`);
  if (!accepts(proxy.state, event.type, event.state)) {
    throw new Error(`the chart does not take ${event.type}.${event.state} where ${proxy.id} is ${proxy.state}`);
  }
  state.byState[proxy.state]--;
  proxy.state = event.state;
  state.byState[proxy.state]++;
  state.proxyMoved(proxy);
  return proxy;
}

function touch(state: PoolState, lease: Lease): void {
  state.proxyMoved(lease.proxy);
  replanExit(state, lease.exit);
  state.exitMoved(lease.exit);
}

function proxyOf(state: PoolState, id: string): Proxy {
  const proxy = state.chosen?.id === id ? state.chosen : state.proxies.get(id);
  if (proxy === undefined) throw new Error(`${id} is not known`);
  return proxy;
}

function openLease(state: PoolState, id: string): Lease {
  const lease = state.leases.get(id);
  if (lease === undefined) throw new Error(`${id} is no open lease`);
  return lease;
}
