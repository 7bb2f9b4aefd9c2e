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

export function wished(wish: Wish, policy: Policy): string {
  const { uses = 1, minUses = 1, ttlMs, session, labels, schemes, exclude, holder, target } = wish;
  return [
    counted(uses, "use") + (minUses > 1 ? ` (at least ${minUses})` : ""),
    ...(ttlMs === undefined || ttlMs === policy.lease.ttlMs ? [] : [`for ${span(ttlMs)}`]),
    ...(labels === undefined ? [] : [`labels ${labelled(labels)}`]),
    ...(schemes === undefined ? [] : [`by ${schemes.join(" or ")}`]),
    ...(session === undefined ? [] : [told(`in the session ${session}`)]),
    ...(holder === undefined ? [] : [told(`for the holder ${holder}`)]),
    ...(target === undefined ? [] : [told(`at ${target}`)]),
    ...(exclude === undefined ? [] : [`not ${exclude.join(", ")}`]),
  ].join(", ");
}

export function used({ n, leaseId, class: kind, status, error }: UseReported): string {
  const what = status ?? error;
  return told(`use ${n} of ${leaseId}: ${kind}${what === undefined ? "" : ` (${what})`}`);
}

/**
 * Why this rest was as long as it was: one sentence for each reason.
 * @param cause the outcome before it in the same commit, if it was one. @param failedAt report times of its failures before.
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
  return rest.reasons.filter((reason) => !earlier.includes(reason)).map(sentenceFor);

  function sentenceFor(reason: RestReason): string {
    switch (reason) {
      case "backoff":
        return cause === undefined ? "backoff: after a failure." : backoff(rest, at, policy, cause);
      case "throttle":
        return `throttle: the target asked to be left alone for ${span(cause?.retryAfterMs ?? rest.until - at)}.`;
      case "failures": {
        const rule = policy.failures;
        const count = rule === null ? 0 : failedAt.filter((failed) => failed > at - rule.windowMs).length;
        const what =
          rule === null
            ? ""
            : `${count} failures within ${span(rule.windowMs)} (limit ${rule.limit}); the rest for it is ${span(rule.restMs)}`;
        return `failures: ${what}.`;
      }
      case "streak": {
        const rule = policy.streak;
        const what =
          rule === null
            ? ""
            : `${cause?.streak ?? "too many"} failures in a row (limit ${rule.limit}); the rest for it is ${span(rule.restMs)}`;
        return `streak: ${what}.`;
      }
      case "usage": {
        const rule = given.usage;
        const idleAt = rest.exitUntil === undefined || rule === null ? at : rest.exitUntil - rule.restMs;
        const over = idleAt === at ? "was over" : "had too few uses left for a wish";
        const what = rule === null ? "" : ` (${rule.limit} uses); the rest for it is ${span(rule.restMs)}`;
        const since = idleAt === at ? "" : `, counted from when the exit became idle, ${instant(idleAt)}`;
        return `usage: the stint of its exit ${told(given.exit)} ${over}${what}${since}.`;
      }
      case "by-hand":
        return `by-hand: somebody asked for it${rest.note === undefined ? "" : told(`, saying “${rest.note}”`)}.`;
    }
  }
}

function backoff(rest: RestBegan, at: number, { backoff: rule }: Policy, cause: UseReported): string {
  const n = Math.max(cause.streak, 1);
  const nth = `failure ${n} in a row (${cause.class})`;
  const alone = rest.reasons.length === 1;
  const drawnOf = (least: number): string => {
    const drawn = rest.until - at - least;
    return alone && drawn > 0 ? `, and ${span(drawn)} by lot` : "";
  };
  if (rule.kind === "none") return `backoff: ${nth}.`;
  if (rule.kind === "fixed") return `backoff: ${nth}: always ${span(rule.restMs)}${drawnOf(rule.restMs)}.`;
  const baseMs = (cause.class === "success" ? undefined : rule.baseMsBy[cause.class]) ?? rule.baseMs;
  const most = Math.max(rule.maxMs, 2 * baseMs);
  const doubled = baseMs * 2 ** Math.min(n, 40);
  const least = Math.min(doubled, most);
  return `backoff: ${nth}: ${span(baseMs)} · 2^${n} = ${span(doubled)}${doubled > most ? `, at most ${span(most)}` : ""}${drawnOf(least)}.`;
}
