// The accounts of exits: which exit a proxy's limits are kept by, and what becomes of its traces when that changes.
import type { Limits } from "../events/policy.ts";
import { leaveExit, replanLast } from "./forget.ts";
import { limitExit } from "./limits.ts";
import { wider } from "./spent.ts";
import { type Exit, type PoolState, type Proxy, reportedUpTo } from "./state.ts";

export function accountKey(state: PoolState, proxyId: string, exit: string): string {
  return state.rules.policy.limitBy === "exit" ? exit : proxyId;
}

/**
 * What was granted through an exit stays with that address, where other proxies use it too. One that was alone there
 * takes everything along: its exit has only been given another name.
 */
export function moveToExit(state: PoolState, proxy: Proxy, account: Exit): void {
  const old = proxy.account;
  leaveExit(proxy);
  account.members.push(proxy);
  if (proxy.limits !== undefined) account.limited++;
  proxy.account = account;
  if (old.members.length === 0) {
    moveTraces(state, old, account);
    state.exits.delete(old.key);
  } else {
    limitExit(state, old);
    replanLast(state, old);
  }
  limitExit(state, account);
  state.proxyLeft(proxy, old);
}

function moveTraces(state: PoolState, from: Exit, to: Exit): void {
  for (const base of from.slots.toArray()) to.slots.add(base);
  to.stint += from.stint;
  to.openUses += from.openUses;
  to.leases.push(...from.leases);
  to.restUntil = Math.max(to.restUntil, from.restUntil);
  to.lastClosedAt = Math.max(to.lastClosedAt, from.lastClosedAt);
  to.spent = wider(to.spent, from.spent);
  for (const leases of [state.leases, state.closedLeases]) {
    for (const lease of leases.values()) if (lease.exit === from) lease.exit = to;
  }
}

export function setLimits(proxy: Proxy, limits: Limits | undefined): void {
  proxy.account.limited += (limits === undefined ? 0 : 1) - (proxy.limits === undefined ? 0 : 1);
  proxy.limits = limits;
}

/**
 * Between `limitBy` exit and proxy, which the decision allows only while no lease is open and no slot occupied: stints
 * and rests are copied, or added up.
 */
export function regroup(state: PoolState): void {
  state.exits.clear();
  for (const proxy of state.proxies.values()) {
    const old = proxy.account;
    const account = state.exitFor(accountKey(state, proxy.id, proxy.exit));
    account.members.push(proxy);
    if (proxy.limits !== undefined) account.limited++;
    account.stint += old.stint;
    account.restUntil = Math.max(account.restUntil, old.restUntil);
    account.lastClosedAt = Math.max(account.lastClosedAt, old.lastClosedAt);
    proxy.account = account;
  }
  for (const lease of state.closedLeases.values()) lease.exit = lease.proxy.account;
}

/**
 * Counted from the report from now on: what is granted and not reported holds a slot until its report, in place of the
 * one that began with the grant.
 */
export function holdUnreported(state: PoolState): void {
  for (const lease of state.leases.values()) {
    const unreported = lease.uses - reportedUpTo(lease, lease.uses);
    lease.exit.openUses += unreported - lease.slots;
    lease.exit.slots.remove(lease.grantedAt, unreported - lease.slots);
    lease.slots = unreported;
  }
}
