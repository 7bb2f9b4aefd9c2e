// Checks reported uses: each once, classified by the policy in force, with the right epoch, and followed by the rest
// that each calls for.
import type { UseReported } from "../../../events/outcome.ts";
import type { Policy } from "../../../events/policy.ts";
import { exactly, isSpentAwake, tooManyFailures } from "./causes.ts";
import { type Cause, isResting, type LeaseModel, markReported, type ProxyModel } from "./entities.ts";
import { graceOf, type Model } from "./model.ts";
import { countingExits } from "./past.ts";

/** A worker may number uses beyond those granted, up to this many. */
const overMax = 1000;
const retryAfterMsMax = 3_600_000;
/** With these outcomes the request may still be on its way to the target. */
const arriveLate = new Set<string>(["unreachable", "timeout", "client-abort"]);

export function checkUse(model: Model, event: UseReported): void {
  const { findings, policy, at } = model;
  const lease = model.lease(event.leaseId);
  if (lease === undefined || policy === undefined || lease.proxy.id !== event.proxyId) {
    return findings.add(
      "outcome",
      `use ${event.n} of ${event.leaseId} is reported, but the lease is not one of ${event.proxyId}`,
    );
  }
  const rule = policy.outcomes[event.class];
  if (rule === undefined)
    return findings.add("outcome", `use ${event.n} of ${lease.id} is of the class ${String(event.class)}`);
  const { proxy, exit } = lease;
  const isLast = event.n <= lease.uses + overMax && event.n >= 1;
  if (!isLast || !markReported(lease, event.n))
    findings.add("outcome", `use ${event.n} of ${lease.id} was already reported or is out of range`);
  const counts = event.counts === true;
  const result = event.class === "success" ? "success" : rule.counts || rule.score < 0 ? "failure" : "neutral";
  if (result !== event.result || counts !== rule.counts || (event.tokenRejected && event.class !== "success")) {
    findings.add(
      "outcome",
      `use ${event.n} of ${lease.id} (${event.class}) is a ${event.result}, and the policy says ${result}`,
    );
  }
  const isCurrent = lease.epoch === proxy.epoch;
  checkFigures(model, event, { proxy, isCurrent, score: rule.score, counts: rule.counts });
  checkSlot(model, event, lease);
  if (counts) {
    proxy.failures.push(Math.min(event.storedAt, at));
    proxy.failures.sort((a, b) => a - b);
    const kept = (policy.failures?.limit ?? 0) + 1;
    if (proxy.failures.length > kept) proxy.failures.splice(0, proxy.failures.length - kept);
  }
  proxy.score = event.score;
  proxy.streak = event.streak;
  if (lease.closedAt === 0) {
    if (event.final === true) lease.isFinal = true;
    if (lease.isFinal || lease.reportedTo >= lease.uses) model.mustClose.push(lease);
  }
  if (event.over !== undefined)
    for (const each of countingExits(exit)) if (isSpentAwake(each)) model.mayBeSpent.add(each);
  expectRest(model, policy, event, { proxy, isCurrent });
  const { tally } = model;
  if (tally.silent) return;
  tally.count(tally.outcomes, event.class);
  if (event.over !== undefined) tally.overUses++;
  if (event.late !== undefined) tally.lateOutcomes++;
}

function checkFigures(
  model: Model,
  event: UseReported,
  given: { proxy: ProxyModel; isCurrent: boolean; score: number; counts: boolean },
): void {
  const { findings, policy } = model;
  const { proxy } = given;
  const { min, max } = policy!.score; // Checked before.
  const score = Math.min(max, Math.max(min, proxy.score + given.score));
  if (event.score !== score) findings.add("score", `the score of ${proxy.id} becomes ${event.score}, not ${score}`);
  const streak = !given.isCurrent
    ? proxy.streak
    : event.class === "success"
      ? 0
      : proxy.streak + (given.counts ? 1 : 0);
  if (event.streak !== streak)
    findings.add("streak", `the streak of ${proxy.id} becomes ${event.streak}, not ${streak}`);
}

function checkSlot(model: Model, event: UseReported, lease: LeaseModel): void {
  const { findings, at } = model;
  const { exit } = lease;
  const graceMs = graceOf(model, lease);
  const isOver = event.n > (lease.closedAt === 0 ? lease.uses : lease.used);
  const isLate = event.storedAt > lease.expiresAt + graceMs;
  if (isOver !== (event.over === true) || isLate !== (event.late === true)) {
    findings.add(
      "outcome",
      `use ${event.n} of ${lease.id} must be ${isOver ? "" : "not "}over and ${isLate ? "" : "not "}late`,
    );
  }
  const slotAt = lease.held > 0 || isOver ? at + (arriveLate.has(event.class) ? graceMs : 0) : undefined;
  if (event.slotAt !== slotAt) {
    findings.add(
      "slot",
      `use ${event.n} of ${lease.id} holds its slot from ${event.slotAt ?? "its grant"}, not from ${slotAt ?? "its grant"}`,
    );
  }
  if (event.over === true) {
    findings.notice(
      "outcome",
      `use ${event.n} of ${lease.id} is beyond those granted: its worker made more requests than it may`,
    );
    if (event.slotAt !== undefined) exit.bases.insert(event.slotAt);
    if (event.late !== true) {
      exit.usesSinceRest++;
      exit.lastClosedAt = at;
    }
  } else if (event.slotAt !== undefined && lease.held > 0) {
    lease.held--;
    if (lease.closedAt === 0) exit.held--;
    else exit.bases.take(lease.closedSlotAt);
    exit.bases.insert(event.slotAt);
  } else if (lease.shadow > 0) {
    lease.shadow--;
    exit.shadow.held--;
    exit.shadow.bases.insert(at + (arriveLate.has(event.class) ? graceMs : 0));
  }
}

/** An outcome of an older epoch begins no rest. Only a time that the target itself names may lengthen one. */
function expectRest(
  model: Model,
  policy: Policy,
  event: UseReported,
  { proxy, isCurrent }: { proxy: ProxyModel; isCurrent: boolean },
): void {
  if (event.class === "success" || proxy.state === "retired") return;
  const { at } = model;
  const causes: Cause[] = [];
  const retryAfterMs = event.class === "throttled" ? Math.min(event.retryAfterMs ?? 0, retryAfterMsMax) : 0;
  if (retryAfterMs > 0) causes.push(exactly("throttle", at + retryAfterMs));
  if (!isCurrent || isResting(proxy)) {
    if (isResting(proxy) && at + retryAfterMs > proxy.until && retryAfterMs > 0) model.mustRest.set(proxy, causes);
    return;
  }
  if (policy.outcomes[event.class].rest === "backoff") {
    const backoff = backoffOf(policy, event.class, Math.max(proxy.streak, 1));
    if (backoff.most > 0) causes.push({ reason: "backoff", from: at + backoff.least, to: at + backoff.most });
    if (backoff.most > backoff.least && model.chance === undefined)
      model.findings.add("chance", `a rest of ${proxy.id} is drawn by chance, and the commit records none`);
  }
  const { failures, streak } = policy;
  if (event.counts === true) {
    // Without the rule there are never too many.
    if (tooManyFailures(model, proxy)) causes.push(exactly("failures", at + failures!.restMs));
    if (streak !== null && proxy.streak > streak.limit) causes.push(exactly("streak", at + streak.restMs));
  }
  if (causes.length > 0) model.mustRest.set(proxy, causes);
}

/**
 * The n-th failure in a row rests for base · 2^n, at most the maximum or the first rest of its class,
 * whichever is longer, plus a random part.
 */
function backoffOf(policy: Policy, outcome: UseReported["class"], n: number): { least: number; most: number } {
  const { backoff } = policy;
  if (backoff.kind === "none") return { least: 0, most: 0 };
  if (backoff.kind === "fixed") return { least: backoff.restMs, most: backoff.restMs + backoff.jitterMs };
  const baseMs = (outcome === "success" ? undefined : backoff.baseMsBy[outcome]) ?? backoff.baseMs;
  const longest = Math.max(backoff.maxMs, 2 * baseMs);
  let least = baseMs;
  for (let i = 0; i < n && least < longest; i++) least *= 2;
  least = Math.min(least, longest);
  return { least, most: least + Math.max(backoff.jitterMs, Math.floor(least * backoff.jitterShare)) };
}
