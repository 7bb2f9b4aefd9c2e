// Forgets retired proxies, empty exits and closed leases. A retired proxy is remembered until its traces have run out
// (window, usage, rest, failures, leases that may still be reported), so retiring and adding again does not get round a
// limit. The end of the traces follows from events alone, not from the time of a check. A check may be planned too
// early, but never too late.
import { exitRules } from "../rules/exit.ts";
import { failuresTracesEnd } from "../rules/failures.ts";
import { limitExit, lookAtPast } from "../rules/limits.ts";
import { forgetSessions } from "../rules/session.ts";
import { countingExits, isInUsageQuota, lastClosedOf, leasesOf } from "./past.ts";
import {
  closedKeptMax,
  closedKeptMs,
  type Exit,
  type Lease,
  type Moved,
  type Past,
  type PoolState,
  type Proxy,
  retiredKeptMs,
} from "./state.ts";
import { forgetToken } from "./token.ts";

export function planToForget(state: PoolState, proxy: Proxy): void {
  proxy.forgetAt = tracesEnd(state, proxy);
  state.forgets.set(proxy);
}

/** Another policy may let traces end sooner. */
export function planAnew(state: PoolState): void {
  for (const proxy of [...state.forgets.items]) planToForget(state, proxy);
}

export function forgetWhatHasRunOut(state: PoolState): void {
  forgetClosed(state);
  for (let proxy = state.forgets.top; proxy !== undefined && proxy.forgetAt <= state.at; proxy = state.forgets.top) {
    state.forgets.delete(proxy);
    const end = tracesEnd(state, proxy);
    if (end > state.at) {
      proxy.forgetAt = end;
      state.forgets.set(proxy);
    } else forget(state, proxy);
  }
  for (let moved = state.fading.top; moved !== undefined && moved.fadesAt <= state.at; moved = state.fading.top) {
    fade(state, moved);
  }
  forgetSessions(state);
}

/** Continues where the last look ended. A look from the beginning would pass all deleted entries again. */
function forgetClosed(state: PoolState): void {
  const { closedLeases } = state;
  for (;;) {
    state.oldestClosed ??= nextClosed(state);
    const lease = state.oldestClosed;
    if (lease === undefined) return;
    const { at } = lease.closed!; // Only closed leases are here.
    if (at >= state.at - closedKeptMs && closedLeases.size <= closedKeptMax) return;
    closedLeases.delete(lease.id);
    state.oldestClosed = undefined;
  }
}

function nextClosed(state: PoolState): Lease | undefined {
  const next = state.closedInTurn.next();
  if (!next.done) return next.value;
  // The iterator has seen all. There may be new ones.
  if (state.closedLeases.size === 0) return undefined;
  state.closedInTurn = state.closedLeases.values();
  return state.closedInTurn.next().value;
}

function tracesEnd(state: PoolState, proxy: Proxy): number {
  return Math.max(
    proxy.retiredAt + retiredKeptMs,
    proxy.until,
    proxy.openLeases > 0 ? Infinity : 0, // Planned anew when the last one closes.
    proxy.lastClosedAt + closedKeptMs + 1,
    failuresTracesEnd(state, proxy),
    proxy.account.members.length > 1 ? 0 : exitTracesEnd(state, proxy.account),
  );
}

function exitTracesEnd(state: PoolState, exit: Exit): number {
  if (leasesOf(exit).length > 0) return Infinity;
  return Math.max(
    exit.restUntil,
    ...exitRules.map((rule) => rule.tracesEnd?.(state, exit) ?? 0),
    // A late report of a lease whose proxy has moved to another exit adds a slot here.
    lastClosedOf(exit) + closedKeptMs + 1,
  );
}

/** Forgets the former exits that have run out. An exit without proxies is forgotten with the last of them. */
function fade(state: PoolState, moved: Moved): void {
  const { exit } = moved;
  if (exit.members.length === 0) {
    moved.fadesAt = exitTracesEnd(state, exit);
    if (moved.fadesAt > state.at) return state.fading.set(moved);
    return dropExit(state, exit);
  }
  moved.fadesAt = Infinity;
  for (const past of [...moved.past]) {
    const end = pastEnd(state, exit, past);
    if (end > state.at) {
      moved.fadesAt = Math.min(moved.fadesAt, end);
      continue;
    }
    exit.usesSinceRest += past.of.usesSinceRest - past.since;
    dropPast(state, moved, past);
  }
  if (moved.past.length > 0) return state.fading.set(moved);
  state.fading.delete(moved);
  exit.moved = null;
}

/**
 * The instant from which only the former exit's part of the usage count is left. The exit then counts that part as its
 * own. Infinity while several exits count the former one, and one of them has its uses in a quota: if their proxies
 * meet at one exit again, these uses must not be counted twice. The quotas bound the number of such former exits.
 * Without a usage rule nothing bounds it, so each exit then counts its own part.
 */
function pastEnd(state: PoolState, exit: Exit, { of }: Past): number {
  if (of.leases.length > 0) return Infinity;
  const end = Math.max(
    ...exitRules.map((rule) => rule.pastEnd?.(state, exit, of) ?? 0),
    of.lastClosedAt + closedKeptMs + 1,
  );
  if (end > state.at) return end;
  return exit.limits.usage !== null && (of.moved?.countedBy.size ?? 0) > 1 && isInUsageQuota(of) ? Infinity : end;
}

export function dropPast(state: PoolState, moved: Moved, past: Past): void {
  const { exit } = moved;
  const { of } = past;
  moved.past = moved.past.filter((each) => each !== past);
  exit.lastClosedAt = Math.max(exit.lastClosedAt, of.lastClosedAt);
  if (of.moved === null) return;
  of.moved.countedBy.delete(exit);
  if (of.moved.countedBy.size === 0) state.former.delete(of.moved.order);
  lookWhereCounted(state, of);
}

/** Exits that count this former exit may no longer have to. */
export function lookWhereCounted(state: PoolState, of: Exit): void {
  for (const exit of of.moved?.countedBy ?? []) if (exit.moved !== null) lookAtPast(state, exit.moved);
}

function dropExit(state: PoolState, exit: Exit): void {
  state.exits.delete(exit.key);
  if (exit.moved === null) return;
  for (const past of [...exit.moved.past]) dropPast(state, exit.moved, past);
  state.fading.delete(exit.moved);
}

/** Something that was granted through this exit has changed. */
export function replanExit(state: PoolState, exit: Exit): void {
  if (exit.moved === null) return replanRetired(state, exit);
  for (const each of countingExits(exit)) {
    replanRetired(state, each);
    if (each.moved !== null) lookAtPast(state, each.moved);
  }
}

function forget(state: PoolState, proxy: Proxy): void {
  const exit = proxy.account;
  state.proxies.delete(proxy.id);
  forgetToken(state, proxy.id);
  state.ids.delete(proxy.id);
  state.byState.retired--;
  leaveExit(proxy);
  if (exit.members.length === 0) dropExit(state, exit);
  else {
    limitExit(state, exit);
    replanRetired(state, exit);
  }
}

export function leaveExit(proxy: Proxy): void {
  const exit = proxy.account;
  exit.members.splice(exit.members.indexOf(proxy), 1);
  if (proxy.limits !== undefined) exit.limited--;
}

/** The traces of an exit are kept with its last proxy, as long as that is the only one. */
export function replanRetired(state: PoolState, { members }: Exit): void {
  if (members.length > 2) return;
  for (const proxy of members) if (proxy.state === "retired") planToForget(state, proxy);
}
