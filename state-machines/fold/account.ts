// The accounts of exits: the exit by which a proxy's limits are kept, and what happens to its counts when that changes.
import type { Limits } from "../../events/policy.ts";
import { wider } from "../candidates/spent.ts";
import { limitExit, lookAtPast } from "../rules/limits.ts";
import { isCounting } from "./counted.ts";
import { dropPast, leaveExit, lookWhereCounted, replanRetired } from "./forget.ts";
import { lastClosedOf, newMoved, usesSinceRestOf } from "./past.ts";
import { closedKeptMs, type Exit, type Past, type PoolState, type Proxy } from "./state.ts";
import { reportedUpTo } from "./uses.ts";

export function accountKey(state: PoolState, proxyId: string, exit: string): string {
  return state.rules.policy.limitBy === "exit" ? exit : proxyId;
}

/** An array made by `push` would have room for seventeen, and nearly every exit has one proxy. */
export function joinExit(exit: Exit, proxy: Proxy): void {
  if (exit.members.length === 0) exit.members = [proxy];
  else exit.members.push(proxy);
}

/**
 * Uses that were granted through an exit count there until they have run out, so a new label does not get round a
 * limit. The last proxy of an exit takes them along as well, since the exit may only have been renamed.
 */
export function moveToExit(state: PoolState, proxy: Proxy, account: Exit): void {
  const old = proxy.account;
  leaveExit(proxy);
  joinExit(account, proxy);
  if (proxy.limits !== undefined) account.limited++;
  proxy.account = account;
  if (old.members.every(({ state: name }) => name === "retired")) takeAlong(state, old, account);
  else {
    limitExit(state, old);
    replanRetired(state, old);
  }
  limitExit(state, account);
  replanRetired(state, account);
  state.proxyLeft(proxy, old);
}

/**
 * The exit as it was becomes a former one. A new exit of its name counts it from now on, and so does the exit to which
 * the proxy moves.
 */
function takeAlong(state: PoolState, old: Exit, account: Exit): void {
  state.exits.delete(old.key);
  state.spreading.delete(old);
  stayAt(state, old);
  const past: Past[] = [...(old.moved?.past ?? [])];
  for (const { of } of past) of.moved?.countedBy.delete(old);
  if (old.moved !== null) state.fading.delete(old.moved);
  old.moved = null;
  if (hasTraces(state, old)) {
    old.moved = { ...newMoved(old), order: state.nextFormer++ };
    state.former.set(old.moved.order, old);
    past.push({ of: old, since: 0 });
  }
  if (past.length === 0 && old.restUntil <= state.at) return;
  for (const exit of [state.exitFor(old.key), account]) {
    exit.restUntil = Math.max(exit.restUntil, old.restUntil);
    exit.spent = wider(exit.spent, old.spent);
    exit.moved ??= newMoved(exit);
    for (const { of, since } of past) {
      if (exit.moved.past.some((known) => known.of === of)) continue;
      exit.moved.past.push({ of, since });
      of.moved?.countedBy.add(exit);
    }
    lookAtPast(state, exit.moved);
    replanRetired(state, exit);
  }
}

/** The retired proxies of the old exit stay: they go to a new exit of the same name. */
function stayAt(state: PoolState, old: Exit): void {
  if (old.members.length === 0) return;
  const exit = state.exitFor(old.key);
  for (const proxy of old.members) {
    joinExit(exit, proxy);
    proxy.account = exit;
    state.proxyLeft(proxy, old);
  }
  exit.limited = old.limited;
  old.members = [];
  old.limited = 0;
  limitExit(state, exit);
  replanRetired(state, exit);
}

function hasTraces(state: PoolState, exit: Exit): boolean {
  const mayBeReported = exit.lastClosedAt > 0 && exit.lastClosedAt + closedKeptMs >= state.at;
  return exit.leases.length > 0 || isCounting(exit) || mayBeReported;
}

/** Ends the exit's usage quota. Uses that also count elsewhere go on counting there. */
export function endUsageQuota(state: PoolState, exit: Exit): void {
  exit.usesSinceRest = 0;
  if (exit.moved === null) return;
  for (const past of exit.moved.past) past.since = past.of.usesSinceRest;
  for (const { of } of exit.moved.past) lookWhereCounted(state, of);
}

export function setLimits(proxy: Proxy, limits: Limits | undefined): void {
  proxy.account.limited += (limits === undefined ? 0 : 1) - (proxy.limits === undefined ? 0 : 1);
  proxy.limits = limits;
}

/** After a change of `limitBy`, while nothing is open or occupied: usage counts and rests go to the new exits. */
export function regroup(state: PoolState): void {
  const left = [...state.exits.values()].filter((exit) => exit.members.length === 0);
  for (const exit of left) {
    Object.assign(exit, sumOf(exit));
    exit.moved ??= newMoved(exit);
    for (const past of [...exit.moved.past]) dropPast(state, exit.moved, past);
  }
  state.exits.clear();
  state.fading.clear();
  for (const exit of left) {
    state.exits.set(exit.key, exit);
    lookAtPast(state, exit.moved!); // Set above.
  }
  for (const proxy of state.proxies.values()) {
    const old = sumOf(proxy.account);
    const account = state.exitFor(accountKey(state, proxy.id, proxy.exit));
    joinExit(account, proxy);
    if (proxy.limits !== undefined) account.limited++;
    account.usesSinceRest += old.usesSinceRest;
    account.restUntil = Math.max(account.restUntil, old.restUntil);
    account.lastClosedAt = Math.max(account.lastClosedAt, old.lastClosedAt);
    proxy.account = account;
  }
  state.former.clear();
  for (const lease of state.closedLeases.values()) lease.exit = lease.proxy.account;
}

function sumOf(exit: Exit): Pick<Exit, "usesSinceRest" | "restUntil" | "lastClosedAt"> {
  return { usesSinceRest: usesSinceRestOf(exit), restUntil: exit.restUntil, lastClosedAt: lastClosedOf(exit) };
}

/** After a change to `countFrom: "report"`: an unreported use holds a slot until its report. */
export function holdUnreported(state: PoolState): void {
  for (const lease of state.leases.values()) {
    const unreported = lease.uses - reportedUpTo(lease, lease.uses);
    lease.exit.openUses += unreported - lease.slots;
    lease.exit.slots.remove(lease.grantedAt, unreported - lease.slots);
    lease.slots = unreported;
  }
}
