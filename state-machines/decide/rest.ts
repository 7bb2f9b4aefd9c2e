// Rests: when a proxy begins one, its length, and its end. A rest resets only its own causes. When several apply at
// once, the longest wins and all reasons are recorded. An outcome of an older epoch neither begins nor ends a rest, and
// only a target's `retryAfterMs` may lengthen one.
import type { RestBegan } from "../../events/proxy.ts";
import { isResting } from "../candidates/group.ts";
import { countingExits, lastClosedOf, leasesOf, usesSinceRestOf } from "../fold/past.ts";
import { type Exit, type Proxy, spreadFrom } from "../fold/state.ts";
import { backoff, throttle } from "../rules/backoff.ts";
import { failures, failuresRest } from "../rules/failures.ts";
import type { Cause, Reported } from "../rules/rule.ts";
import { mustRetire, streak } from "../rules/streak.ts";
import { spentRest } from "../rules/usage.ts";
import { doneBy, type Turn } from "./turn.ts";

/** Begins the rest that a recorded outcome calls for. `isCurrent`: the outcome is of the proxy's present epoch. */
export function restAfterOutcome(
  turn: Turn,
  proxy: Proxy,
  outcome: Omit<Reported, "draw"> & { isCurrent: boolean },
): void {
  // A retired proxy does not rest. Its failures are checked if it is added again.
  if (proxy.state === "retired") return;
  const { state } = turn;
  const reported = { ...outcome, draw: () => turn.draw() };
  const asked = throttle.causeOf(state, proxy, reported);
  if (!outcome.isCurrent || isResting(proxy)) {
    if (asked !== undefined && isResting(proxy) && asked.until > proxy.until) rest(turn, proxy, [asked]);
    return;
  }
  const spent = spentRest(state, proxy.account);
  const causes = [
    asked,
    backoff.causeOf(state, proxy, reported),
    failures.causeOf(state, proxy, reported),
    streak.causeOf(state, proxy, reported),
    spent,
  ].filter((cause) => cause !== undefined);
  if (causes.length === 0) return;
  rest(turn, proxy, causes, spent === undefined ? {} : { exitUntil: spent.until });
  if (spent !== undefined) restSiblings(turn, proxy, spent);
  if (causes.some(({ reason }) => reason === "streak") && mustRetire(state, proxy)) {
    turn.emit({ type: "ProxyRetired", proxyId: proxy.id, state: "retired", reason: "streak" });
  }
}

/** Begins the usage rest if it is due at the exit. For a former exit: at each exit that counts its uses. */
export function restWhenSpent(turn: Turn, exit: Exit): void {
  for (const each of countingExits(exit)) {
    const cause = spentRest(turn.state, each);
    if (cause !== undefined) restAll(turn, each, cause);
  }
}

/**
 * A lease request needs more uses than an idle exit has left in its quota, so the exit's rest begins. It counts from
 * when the exit became idle, and may be over at once. (If it counted from the request, no retry time could be given
 * while a lease is open.)
 */
export function restWhenShort(turn: Turn, exit: Exit): void {
  const { usage } = exit.limits;
  if (usage === null) return;
  restAll(turn, exit, { reason: "usage", until: lastClosedOf(exit) + usage.restMs });
  let ended = 0;
  for (const proxy of exit.members) {
    if (!isResting(proxy) || proxy.until > turn.at) continue;
    endRest(turn, proxy);
    if (++ended > spreadFrom) return; // The next tick ends the remainder.
  }
}

/** For a recorded refusal, whose request is unknown. @param recorded.isSpent the quota was used up. */
export function restForRefusal(turn: Turn, proxy: Proxy, recorded: { isSpent: boolean; usesLeft: number }): boolean {
  const exit = proxy.account;
  const { usage } = exit.limits;
  const before = turn.events.length;
  const isShort = usage !== null && usage.limit - usesSinceRestOf(exit) <= recorded.usesLeft;
  if (recorded.isSpent) restWhenSpent(turn, exit);
  else if (isShort && usesSinceRestOf(exit) > 0 && leasesOf(exit).length === 0 && exit.restUntil <= turn.at)
    restWhenShort(turn, exit);
  return turn.events.length > before;
}

/** Ends the rests that are over, as far as there is room. Returns whether all have ended. */
export function endRests(turn: Turn, room: () => boolean): boolean {
  const { rests } = turn.state;
  for (let proxy = rests.top; proxy !== undefined && proxy.until <= turn.at; proxy = rests.top) {
    if (!room()) return false;
    endRest(turn, proxy);
  }
  return true;
}

function restAll(turn: Turn, exit: Exit, cause: Cause): void {
  const first = exit.members.find((proxy) => proxy.state !== "retired");
  if (first === undefined) return;
  // The first proxy's rest begins the exit's. The others join that rest.
  rest(turn, first, [cause], { exitUntil: cause.until });
  restSiblings(turn, first, cause);
}

/**
 * An exit may have more proxies than fit into a commit. The first event closes it to grants and ends its quota. The
 * other proxies follow in later turns, and reset nothing. Returns how many began their rest.
 */
export function spreadUsageRest(turn: Turn, exit: Exit, most: number): number {
  let count = 0;
  for (const proxy of exit.members) {
    if (count === most) return count;
    if (exit.restUntil <= turn.at || proxy.until >= exit.restUntil) continue;
    if (proxy.state === "in-use" || proxy.state === "retired") continue;
    rest(turn, proxy, [{ reason: "usage", until: exit.restUntil }]);
    count++;
  }
  turn.state.spreading.delete(exit);
  return count;
}

function restSiblings(turn: Turn, proxy: Proxy, cause: Cause): void {
  let count = 0;
  for (const sibling of proxy.account.members) {
    // A retired one rests with its exit when it is added again.
    if (sibling === proxy || sibling.state === "retired") continue;
    if (++count > spreadFrom) return;
    rest(turn, sibling, [cause]);
  }
}

/** Never shortens a rest that is running. @param note the reason in the operator's words. */
export function restManually(
  turn: Turn,
  proxy: Proxy,
  { forMs, note, by }: { forMs: number; note: string | undefined; by?: string | undefined },
): boolean {
  const until = turn.at + forMs;
  if (proxy.state === "retired" || (isResting(proxy) && until <= proxy.until)) return false;
  rest(turn, proxy, [{ reason: "manual", until }], { ...(note === undefined ? {} : { note }), ...doneBy(by) });
  return true;
}

export function revive(turn: Turn, proxy: Proxy, by?: string): boolean {
  if (!isResting(proxy)) return false;
  turn.emit({ type: "RestEnded", proxyId: proxy.id, state: openState(proxy), how: "revived", ...doneBy(by) });
  return true;
}

/** Ends a rest. Failures that leases of older epochs reported meanwhile are checked as of its end. */
function endRest(turn: Turn, proxy: Proxy): void {
  const { until } = proxy;
  turn.emit({ type: "RestEnded", proxyId: proxy.id, state: openState(proxy), how: "over" });
  restForFailures(turn, proxy, until);
}

export function restAfterAdding(turn: Turn, proxy: Proxy): void {
  restWhenSpent(turn, proxy.account);
  if (!isResting(proxy)) restForFailures(turn, proxy, turn.at);
}

function restForFailures(turn: Turn, proxy: Proxy, asOf: number): void {
  const cause = failuresRest(turn.state, proxy, asOf);
  if (cause !== undefined) rest(turn, proxy, [cause]);
}

export function openState(proxy: Proxy): "available" | "in-use" {
  return proxy.openLeases > 0 ? "in-use" : "available";
}

/** Begins a rest, or lengthens the one that is running. */
function rest(
  turn: Turn,
  proxy: Proxy,
  causes: readonly Cause[],
  more: Pick<RestBegan, "exitUntil" | "note" | "by"> = {},
): void {
  const runs = isResting(proxy);
  const reasons = [...new Set([...(runs ? proxy.reasons : []), ...causes.map((cause) => cause.reason)])];
  turn.emit({
    type: "RestBegan",
    proxyId: proxy.id,
    state: reasons.includes("usage") ? "exhausted" : "cooling",
    until: Math.max(runs ? proxy.until : 0, ...causes.map((cause) => cause.until)),
    reasons,
    epoch: proxy.epoch + (runs ? 0 : 1),
    ...more,
  });
}
