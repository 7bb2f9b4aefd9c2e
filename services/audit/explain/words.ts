// The words of explanations: instants in UTC, spans exact to the millisecond, each rule with its numbers. The same ledger gives the
// same text on every machine.
import type { Labels } from "../../../events/ids.ts";
import type { Wish } from "../../../events/lease.ts";
import type { UseReported } from "../../../events/outcome.ts";
import type { Policy } from "../../../events/policy.ts";
import type { RestBegan, RestReason } from "../../../events/proxy.ts";

export function instant(at: number): string {
  return Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : String(at);
}

export function span(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  const seconds = Math.floor(ms / 1000);
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  const rest = (ms % 60_000) / 1000;
  const parts = [
    ...(days > 0 ? [`${days} d`] : []),
    ...(hours > 0 ? [`${hours} h`] : []),
    ...(minutes > 0 ? [`${minutes} min`] : []),
    ...(rest > 0 ? [`${rest} s`] : []),
  ];
  return parts.join(" ");
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

export function listed(parts: readonly string[]): string {
  return parts.length < 2 ? (parts[0] ?? "nothing") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** No control characters: names and labels come from others. */
export function told(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\uFFFD");
}

export function labelled(labels: Labels | undefined): string {
  return Object.entries(labels ?? {})
    .map(([name, value]) => told(`${name}=${value}`))
    .join(", ");
}

export function wished(wish: Wish, policy: { lease: Pick<Policy["lease"], "ttlMs"> }): string {
  const { uses = 1, minUses = 1, ttlMs, session, labels, schemes, exclude, proxyId, holder, token, target } = wish;
  return [
    counted(uses, "use") + (minUses > 1 ? ` (at least ${minUses})` : ""),
    ...(ttlMs === undefined || ttlMs === policy.lease.ttlMs ? [] : [`for ${span(ttlMs)}`]),
    ...(labels === undefined ? [] : [`labels ${labelled(labels)}`]),
    ...(schemes === undefined ? [] : [`by ${schemes.join(" or ")}`]),
    ...(session === undefined ? [] : [told(`in the session ${session}`)]),
    ...(holder === undefined ? [] : [told(`for the holder ${holder}`)]),
    ...(target === undefined ? [] : [told(`at ${target}`)]),
    ...(token === true ? ["with a token"] : []),
    ...(proxyId === undefined ? [] : [`${proxyId} or none`]),
    ...(exclude === undefined ? [] : [`not ${shortened(exclude)}`]),
  ].join(", ");
}

function shortened(ids: readonly string[]): string {
  return ids.length <= 5 ? ids.join(", ") : `${ids.slice(0, 5).join(", ")} and ${ids.length - 5} more`;
}

/** How many of the matching proxies each rule held back. */
export function heldBack(held: object): string {
  const all = Object.entries(held).filter(([, count]) => Number(count) > 0);
  return all.length === 0 ? "" : all.map(([rule, count]) => `${rule} ${count}`).join(", ");
}

export function used({ n, leaseId, class: kind, status, error }: UseReported): string {
  const what = status ?? error;
  return told(`use ${n} of ${leaseId}: ${kind}${what === undefined ? "" : ` (${what})`}`);
}

/**
 * Why this rest was as long as it was: one sentence for each reason.
 * @param cause the outcome before it in the same commit, if it was one. @param failedAt report times of failures that were counted
 * for it. @param earlier reasons of a rest that it lengthens.
 */
export function reasonsOf(
  rest: RestBegan,
  at: number,
  given: {
    policy: Policy;
    cause: UseReported | undefined;
    failedAt: readonly number[];
    earlier: readonly string[];
    exit: string;
    /** Of the exit. */
    usage: Policy["usage"];
  },
): string[] {
  const { policy, cause, failedAt, earlier } = given;
  const lines = rest.reasons.filter((reason) => !earlier.includes(reason)).map(sentenceFor);
  return lines.length > 1 ? [...lines, "Of several the longest counts."] : lines;

  function sentenceFor(reason: RestReason): string {
    switch (reason) {
      case "backoff":
        return cause === undefined ? "backoff: after a failure." : backoff(rest, at, policy, cause);
      case "throttle":
        return `throttle: the target asked to be left alone for ${span(cause?.retryAfterMs ?? rest.until - at)}${(cause?.retryAfterMs ?? 0) > retryAfterMsMax ? `, of which ${span(retryAfterMsMax)} count` : ""}.`;
      case "failures": {
        const rule = policy.failures;
        if (rule === null) return "failures.";
        // Those that came in during an earlier rest were judged as of its end.
        const asOf = cause === undefined ? Math.min(at, rest.until - rule.restMs) : at;
        const count = failedAt.filter((failed) => failed > asOf - rule.windowMs).length;
        return `failures: ${counted(count, "failure")} within ${span(rule.windowMs)}; more than ${rule.limit} call for a rest of ${span(rule.restMs)}. Their count begins anew.`;
      }
      case "streak": {
        const rule = policy.streak;
        if (rule === null) return "streak.";
        return `streak: ${cause?.streak ?? "too many"} failures in a row; more than ${rule.limit} call for a rest of ${span(rule.restMs)}. Their count begins anew.`;
      }
      case "usage": {
        const rule = given.usage;
        const exit = told(given.exit);
        if (rule === null) return `usage: the stint of its exit ${exit} was over.`;
        if (rest.exitUntil === undefined)
          return `usage: its exit ${exit} rests after its stint, and all its proxies with it.`;
        const idleAt = rest.exitUntil - rule.restMs;
        return idleAt === at
          ? `usage: its exit ${exit} had used up its stint of ${counted(rule.limit, "use")}, which calls for a rest of ${span(rule.restMs)}. A new stint begins.`
          : `usage: its exit ${exit} had too few of the ${counted(rule.limit, "use")} of a stint left for a wish, which calls for a rest of ${span(rule.restMs)} from when the exit became idle, ${instant(idleAt)}. A new stint begins.`;
      }
      case "by-hand":
        return `by-hand: somebody asked for it${rest.note === undefined ? "" : told(`, saying “${rest.note}”`)}.`;
    }
  }
}

/** What a target asks for counts up to here. */
const retryAfterMsMax = 3_600_000;

function backoff(rest: RestBegan, at: number, { backoff: rule }: Policy, cause: UseReported): string {
  const n = Math.max(cause.streak, 1);
  const nth = `backoff: failure ${n} in a row (${cause.class})`;
  // With other reasons, what was drawn shows only where this one was the longest.
  const drawnOf = (least: number, most: number): string => {
    const drawn = rest.until - at - least;
    if (rest.reasons.length === 1) return drawn > 0 ? `, and ${span(drawn)} more by lot` : "";
    return most > 0 ? `, and up to ${span(most)} more by lot` : "";
  };
  if (rule.kind === "none") return `${nth}.`;
  if (rule.kind === "fixed") return `${nth}: any rests ${span(rule.restMs)}${drawnOf(rule.restMs, rule.jitterMs)}.`;
  const baseMs = (cause.class === "success" ? undefined : rule.baseMsBy[cause.class]) ?? rule.baseMs;
  const most = Math.max(rule.maxMs, 2 * baseMs);
  const doubled = baseMs * 2 ** Math.min(n, 40);
  const least = Math.min(doubled, most);
  const jitterMs = Math.max(rule.jitterMs, Math.floor(least * rule.jitterShare));
  const bound = doubled > most ? `, but at most ${span(most)}` : "";
  return `${nth}: ${span(baseMs)} · 2^${n} = ${span(doubled)}${bound}${drawnOf(least, jitterMs)}.`;
}
