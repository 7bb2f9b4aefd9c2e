// The fold of proxies: they are added, changed and retired, and their rests begin and end.
import type { MovingEvent } from "../../events/event.ts";
import type { ProxyAdded, ProxyChanged, ProxyRetired, RestBegan, RestEnded } from "../../events/proxy.ts";
import { accepts } from "../machines/proxy.ts";
import { limitExit } from "../rules/limits.ts";
import { restRules } from "../rules/rests.ts";
import { accountKey, endUsageQuota, joinExit, moveToExit, setLimits } from "./account.ts";
import { planToForget, replanRetired } from "./forget.ts";
import { type Exit, type PoolState, type Proxy, spreadFrom } from "./state.ts";

export function addProxy(state: PoolState, event: ProxyAdded): void {
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

export function changeProxy(state: PoolState, event: ProxyChanged): void {
  const proxy = proxyOf(state, event.proxyId);
  proxy.exit = event.exit;
  proxy.labels = event.labels;
  setLimits(proxy, event.limits);
  const account = state.exitFor(accountKey(state, proxy.id, event.exit));
  if (account !== proxy.account) moveToExit(state, proxy, account);
  limitExit(state, account);
  state.proxyChanged(proxy); // Labels decide which indexes it answers.
}

export function retireProxy(state: PoolState, event: ProxyRetired): void {
  const proxy = move(state, event);
  proxy.retiredAt = state.at;
  state.rests.delete(proxy);
  limitExit(state, proxy.account);
  planToForget(state, proxy);
}

export function beginRest(state: PoolState, event: RestBegan): void {
  const proxy = move(state, event);
  // Only the causes of this event are reset. Those of a rest that it lengthens were reset before.
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
    state.exitChanged(proxy.account);
  }
}

export function endRest(state: PoolState, event: RestEnded): void {
  const proxy = move(state, event);
  // Reviving a proxy from its exit's rest also ends the exit's rest. Reviving it from its own rest affects only the
  // proxy.
  if (event.how === "revived" && proxy.reasons.includes("usage")) proxy.account.restUntil = 0;
  proxy.until = 0;
  proxy.reasons = [];
  state.rests.delete(proxy);
}

/** Steps the proxy through the chart. Every event that moves a proxy comes here. */
export function move(state: PoolState, event: MovingEvent, proxy = proxyOf(state, event.proxyId)): Proxy {
  if (proxy.id !== event.proxyId) throw new Error(`${event.type} is of ${event.proxyId}, its lease of ${proxy.id}`);
  if (!accepts(proxy.state, event.type, event.state)) {
    throw new Error(`the chart does not take ${event.type}.${event.state} where ${proxy.id} is ${proxy.state}`);
  }
  state.byState[proxy.state]--;
  proxy.state = event.state;
  state.byState[proxy.state]++;
  state.proxyChanged(proxy);
  return proxy;
}

function proxyOf(state: PoolState, id: string): Proxy {
  const proxy = state.chosen?.id === id ? state.chosen : state.proxies.get(id);
  if (proxy === undefined) throw new Error(`${id} is not known`);
  return proxy;
}

function newProxy(event: ProxyAdded, account: Exit, order: number): Proxy {
  return {
    id: event.proxyId,
    scheme: event.scheme,
    host: event.host,
    port: event.port,
    maskedName: event.username,
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
