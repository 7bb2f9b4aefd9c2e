// Why a proxy was resting, at a limit, or free, with the events that caused it.

import type { Event } from "../../../events/event.ts";
import type { UseReported } from "../../../events/outcome.ts";
import type { ProxyAdded, RestBegan } from "../../../events/proxy.ts";
import { counted, printable, showInstant } from "../../../runtime/text.ts";
import { isResting } from "../../../state-machines/candidates/group.ts";
import type { Exit, PoolState, Proxy } from "../../../state-machines/fold/state.ts";
import { bitOf, exitRules, leasableAt, roomOf } from "../../../state-machines/rules/exit.ts";
import { failuresInWindow } from "../../../state-machines/rules/failures.ts";
import type { Step, Trail } from "./trail.ts";
import { byWhom, labelled, listed, reasonsOf, span, used, words } from "./words.ts";

const outcomesTold = 5;

export function proxyStory(state: PoolState, proxy: Proxy, trail: Trail): string[] {
  const { at } = state;
  const labels = labelled(proxy.labels);
  const name = `${proxy.scheme}://${proxy.host}:${proxy.port}`;
  const added = trail.before.findLast((step): step is Step & { event: ProxyAdded } => step.event.type === "ProxyAdded");
  const since = added === undefined ? "" : `, added ${showInstant(added.at)}${byWhom(added.event)} (commit ${added.n})`;
  return [
    printable(`${proxy.id} is ${name}, exit ${proxy.exit}${labels === "" ? "" : `, ${labels}`}${since}.`),
    ...(isResting(proxy)
      ? restOf(state, proxy, trail)
      : proxy.state === "retired"
        ? retired(at, trail)
        : notResting(state, proxy)),
    figures(state, proxy),
    ...outcomes(trail),
    ...afterwards(at, trail),
  ];
}

function restOf(state: PoolState, proxy: Proxy, { before, isCut }: Trail): string[] {
  const ended = before.findLastIndex(({ event }) => event.type === "RestEnded");
  const begun = before
    .slice(ended + 1)
    .filter((step): step is Step & { event: RestBegan } => step.event.type === "RestBegan");
  const [first] = begun;
  const since = first === undefined ? "since before it was added again" : `since ${showInstant(first.at)}`;
  const left = span(Math.max(0, proxy.until - state.at));
  const lines = [
    `At ${showInstant(state.at)} it was resting (${proxy.state}) ${since}, until ${showInstant(proxy.until)} (${left} later), for ${listed(proxy.reasons)}.`,
  ];
  let earlier: readonly string[] = [];
  for (const step of begun) {
    const cause = causeOf(step);
    const began = step === first ? "began" : "was lengthened";
    lines.push(
      `The rest ${began} at ${showInstant(step.at)} (commit ${step.n}), to last until ${showInstant(step.event.until)}:`,
    );
    const { policy, event, at } = step;
    const { key: exit, limits } = proxy.account;
    const failedAt = failuresFor(step, before);
    for (const line of reasonsOf({ rest: event, at, policy, cause, failedAt, exit, usage: limits.usage }, earlier))
      lines.push(`  ${line}`);
    if (cause !== undefined) lines.push(`  It followed from ${used(cause)}.`);
    earlier = event.reasons;
  }
  if (isCut && first === undefined) lines.push("Its beginning is further back than this explanation reaches.");
  return lines;
}

/** When the failures were reported that counted for a rest: those since the last rest that reset their count. */
function failuresFor(rest: Step, before: readonly Step[]): number[] {
  let failedAt: number[] = [];
  let earlier: readonly string[] = [];
  for (const { event, n, place, at } of before) {
    if (n > rest.n || (n === rest.n && place >= rest.place)) break;
    if (event.type === "UseReported" && event.counts === true) failedAt.push(Math.min(event.storedAt, at));
    else if (event.type === "RestEnded" || event.type === "ProxyAdded") earlier = [];
    else if (event.type === "RestBegan") {
      if (event.reasons.includes("failures") && !earlier.includes("failures")) failedAt = [];
      earlier = event.reasons;
    }
  }
  return failedAt;
}

/** The outcome in the same commit that caused the rest. */
function causeOf({ commit, place, event }: Step & { event: RestBegan }): UseReported | undefined {
  for (let i = place - 1; i >= 0; i--) {
    const each = commit?.events[i] as Event | undefined;
    if (each === undefined) return undefined;
    if (each.type === "UseReported" && each.proxyId === event.proxyId) return each;
    if (each.type !== "LeaseClosed" && each.type !== "RestBegan") return undefined;
  }
  return undefined;
}

function retired(at: number, { before }: Trail): string[] {
  const step = before.findLast(({ event }) => event.type === "ProxyRetired");
  if (step?.event.type !== "ProxyRetired") return [`At ${showInstant(at)} it was retired.`];
  const why =
    step.event.reason === undefined ? "no reason was given" : printable(`the reason given: ${step.event.reason}`);
  return [
    `At ${showInstant(at)} it was retired, since ${showInstant(step.at)}${byWhom(step.event)} (commit ${step.n}); ${why}.`,
  ];
}

function notResting(state: PoolState, proxy: Proxy): string[] {
  const held = holding(state, proxy);
  const now = `At ${showInstant(state.at)} it was ${proxy.state}`;
  if (held.length === 0) return [`${now}, and could be leased.`];
  const from = leasableAt(state, proxy, 1);
  const next =
    from === Infinity
      ? ""
      : ` If nothing more had been reported or released, it could have been leased from ${showInstant(from)} on.`;
  return [`${now}, and could not be leased: ${held.join("; ")}.${next}`];
}

/** Could it be leased? */
export function isFree(state: PoolState, proxy: Proxy, minUses: number): boolean {
  return !isResting(proxy) && roomOf(state, proxy.account, minUses).held === 0;
}

/** The limits and rests that hold it back for a request, with their numbers; empty if there are none. */
export function holding(state: PoolState, proxy: Proxy, minUses = 1): string[] {
  const exit = proxy.account;
  const { held } = roomOf(state, exit, minUses);
  const lines: string[] = [];
  if (isResting(proxy)) lines.push(`it rested until ${showInstant(proxy.until)} (${proxy.reasons.join(", ")})`);
  for (const rule of exitRules) {
    if ((held & bitOf(rule.name)) === 0) continue;
    for (const had of rule.held(state, exit, minUses, words)) lines.push(printable(`exit ${exit.key} had ${had}`));
  }
  if ((held & bitOf("rest")) !== 0 && !isResting(proxy))
    lines.push(printable(`exit ${exit.key} rested until ${showInstant(exit.restUntil)}`));
  return lines;
}

function figures(state: PoolState, proxy: Proxy): string {
  const { failures, streak } = state.rules.policy;
  const parts = [
    ...takenOf(state, proxy.account),
    ...(failures === null
      ? []
      : [
          `${counted(failuresInWindow(state, proxy), "failure")} within ${span(failures.windowMs)} (${failures.limit} allowed)`,
        ]),
    `${counted(proxy.streak, "failure")} in a row${streak === null ? "" : ` (${streak.limit} allowed)`}`,
    `score ${proxy.score}`,
    `epoch ${proxy.epoch}`,
  ];
  return `Its numbers then: ${parts.join("; ")}.`;
}

/** How much of each of its limits an exit has used. */
export function takenOf(state: PoolState, exit: Exit): string[] {
  return exitRules.flatMap((rule) => rule.taken(state, exit, words));
}

function outcomes({ before }: Trail): string[] {
  const reported = before.filter((step): step is Step & { event: UseReported } => step.event.type === "UseReported");
  if (reported.length === 0) return ["No use of it was reported before."];
  const shown = reported.slice(-outcomesTold);
  return [
    shown.length === 1 ? "The last outcome before:" : `The last ${counted(shown.length, "outcome")} before:`,
    ...shown.map(
      ({ at, n, event }) =>
        `  ${showInstant(at)} ${used(event)}; score ${event.score}, ${counted(event.streak, "failure")} in a row (commit ${n})`,
    ),
  ];
}

function afterwards(at: number, { after }: Trail): string[] {
  const next = after.find(
    ({ event }) => event.type === "RestEnded" || event.type === "RestBegan" || event.type === "LeaseGranted",
  );
  if (next === undefined) return [];
  const what =
    next.event.type === "LeaseGranted"
      ? `it was leased (${next.event.leaseId})`
      : next.event.type === "RestBegan"
        ? `a rest began, or was lengthened, for ${listed(next.event.reasons)}`
        : next.event.type === "RestEnded" && next.event.how === "revived"
          ? printable(`${next.event.by ?? "an operator"} ended its rest`)
          : "its rest was over";
  return [`Then, ${span(Math.max(0, next.at - at))} later, at ${showInstant(next.at)} (commit ${next.n}), ${what}.`];
}
