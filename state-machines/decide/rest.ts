// Rests: when a proxy begins one, its length, and its end. A rest resets only its own causes. When several apply at
// once, the longest wins and all reasons are recorded. An outcome of an older epoch neither begins, extends nor ends a
// rest. The one exception: a target's `retryAfterMs` may lengthen one.
import type { OutcomeClass } from "../../events/outcome.ts";
import type { RestReason } from "../../events/proxy.ts";
import { isResting } from "../candidates/group.ts";
import { countingExits, lastClosedOf, leasesOf, usesSinceRestOf } from "../fold/past.ts";
import { type Exit, type Proxy, spreadFrom } from "../fold/state.ts";
import { backoff, throttle } from "../rules/backoff.ts";
import { failures, failuresRest } from "../rules/failures.ts";
import type { Cause } from "../rules/rule.ts";
import { mustRetire, streak } from "../rules/streak.ts";
import { spentRest } from "../rules/usage.ts";
import type { Turn } from "./turn.ts";

/** Begins the rest that a recorded outcome calls for. `current`: the outcome is of the proxy's present epoch. */
export function restAfterOutcome(
  turn: Turn,
  proxy: Proxy,
  outcome: { class: OutcomeClass; counts: boolean; retryAfterMs: number | undefined; current: boolean },
): void {
  // A retired proxy does not rest. Its failures are checked if it is added again.
  if (proxy.state === "retired") return;
  const { state } = turn;
  const judged = { ...outcome, draw: () => turn.draw() };
  const asked = throttle.causeOf(state, proxy, judged);
  if (!outcome.current || isResting(proxy)) {
    if (asked !== undefined && isResting(proxy) && asked.until > proxy.until) lengthen(turn, proxy, [asked]);
    return;
  }
  const spent = spentRest(state, proxy.account);
  const causes = [
    asked,
    backoff.causeOf(state, proxy, judged),
    failures.causeOf(state, proxy, judged),
    streak.causeOf(state, proxy, judged),
    spent,
  ].filter((cause) => cause !== undefined);
  if (causes.length === 0) return;
  begin(turn, proxy, causes, spent?.until);
  if (spent !== undefined) restSiblings(turn, proxy, spent);
  if (causes.some(({ reason }) => reason === "streak") && mustRetire(state, proxy)) {
    turn.emit({ type: "ProxyRetired", proxyId: proxy.id, state: "retired", reason: "streak" });
  }
}

/**
 * If the usage quota of an exit is used up and no lease is open on it, all its proxies rest. For a former exit: at
 * every exit that counts it.
 */
export function restWhenSpent(turn: Turn, exit: Exit): void {
  for (const each of countingExits(exit)) {
    const cause = spentRest(turn.state, each);
    if (cause !== undefined) restAll(turn, each, cause);
  }
}

/**
 * A lease request needs more uses than are left in the usage quota of an idle exit, so the exit's rest begins. It
 * counts from when the exit became idle, since no target has seen it from then on. So it may be over at once. (If it
 * counted from the request, no retry time could be given while a lease is open: nothing would begin the rest when that
 * lease ends.)
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

/**
 * The same for a refused lease request whose terms are unknown. It would find any exit too short that has as few uses
 * left.
 * @param recorded.isSpent the quota was used up.
 */
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
  restForUsage(turn, first, cause, cause.until);
  restSiblings(turn, first, cause);
}

/**
 * An exit may have more proxies than fit into a commit. The first event closes it to grants and ends its usage quota.
 * The remaining proxies follow in later turns. They reset nothing, because new uses may count there meanwhile. Returns
 * how many began their rest.
 */
export function spreadUsageRest(turn: Turn, exit: Exit, most: number): number {
  let count = 0;
  for (const proxy of exit.members) {
    if (count === most) return count;
    if (exit.restUntil <= turn.at || proxy.until >= exit.restUntil) continue;
    if (proxy.state === "in-use" || proxy.state === "retired") continue;
    restForUsage(turn, proxy, { reason: "usage", until: exit.restUntil });
    count++;
  }
  turn.state.spreading.delete(exit);
  return count;
}

function restSiblings(turn: Turn, proxy: Proxy, cause: Cause): void {
  let count = 0;
  for (const sibling of proxy.account.members) {
    if (sibling === proxy || sibling.state === "retired") continue;
    if (++count > spreadFrom) return;
    restForUsage(turn, sibling, cause);
  }
}

/** @param exitUntil given for the first proxy of an exit: its rest begins the exit's. The others join that rest. */
function restForUsage(turn: Turn, proxy: Proxy, cause: Cause, exitUntil?: number): void {
  if (proxy.state === "retired") return; // The exit's own rest applies when it is added again.
  if (isResting(proxy)) lengthen(turn, proxy, [cause], exitUntil);
  else begin(turn, proxy, [cause], exitUntil);
}

/**
 * Only lengthens a rest that is running.
 * @param note the reason in the operator's words.
 */
export function restByHand(turn: Turn, proxy: Proxy, wanted: { forMs: number; note: string | undefined }): boolean {
  if (proxy.state === "retired") return false;
  const cause: Cause = { reason: "manual", until: turn.at + wanted.forMs };
  if (!isResting(proxy)) begin(turn, proxy, [cause], undefined, wanted.note);
  else if (cause.until > proxy.until) lengthen(turn, proxy, [cause], undefined, wanted.note);
  else return false;
  return true;
}

export function revive(turn: Turn, proxy: Proxy): boolean {
  if (!isResting(proxy)) return false;
  turn.emit({ type: "RestEnded", proxyId: proxy.id, state: openState(proxy), how: "revived" });
  return true;
}

/** Ends a rest. Failures that leases of older epochs reported meanwhile are checked as of its end. */
function endRest(turn: Turn, proxy: Proxy): void {
  const { until } = proxy;
  turn.emit({ type: "RestEnded", proxyId: proxy.id, state: openState(proxy), how: "over" });
  judgeFailures(turn, proxy, until);
}

/** Begins the rest that an added proxy's usage quota and earlier failures call for. */
export function restAfterAdding(turn: Turn, proxy: Proxy): void {
  restWhenSpent(turn, proxy.account);
  if (!isResting(proxy)) judgeFailures(turn, proxy, turn.at);
}

function judgeFailures(turn: Turn, proxy: Proxy, asOf: number): void {
  const cause = failuresRest(turn.state, proxy, asOf);
  if (cause !== undefined) begin(turn, proxy, [cause]);
}

export function openState(proxy: Proxy): "available" | "in-use" {
  return proxy.openLeases > 0 ? "in-use" : "available";
}

function begin(turn: Turn, proxy: Proxy, causes: readonly Cause[], exitUntil?: number, note?: string): void {
  turn.emit({
    type: "RestBegan",
    proxyId: proxy.id,
    state: causes.some((cause) => cause.reason === "usage") ? "exhausted" : "cooling",
    until: Math.max(...causes.map((cause) => cause.until)),
    reasons: reasonsOf(causes),
    epoch: proxy.epoch + 1,
    ...(exitUntil === undefined ? {} : { exitUntil }),
    ...(note === undefined ? {} : { note }),
  });
}

function lengthen(turn: Turn, proxy: Proxy, causes: readonly Cause[], exitUntil?: number, note?: string): void {
  const reasons = [...new Set([...proxy.reasons, ...reasonsOf(causes)])];
  turn.emit({
    type: "RestBegan",
    proxyId: proxy.id,
    state: reasons.includes("usage") ? "exhausted" : "cooling",
    until: Math.max(proxy.until, ...causes.map((cause) => cause.until)),
    reasons,
    epoch: proxy.epoch,
    ...(exitUntil === undefined ? {} : { exitUntil }),
    ...(note === undefined ? {} : { note }),
  });
}

function reasonsOf(causes: readonly Cause[]): RestReason[] {
  return [...new Set(causes.map((cause) => cause.reason))];
}
