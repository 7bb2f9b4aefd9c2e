// The words of explanations: instants in UTC, spans exact to the millisecond, each rule with its numbers. The same
// ledger gives the same text on every machine.
import type { Labels } from "../../../events/ids.ts";
import type { RecordedRequest } from "../../../events/lease.ts";
import type { UseReported } from "../../../events/outcome.ts";
import type { Policy } from "../../../events/policy.ts";
import { counted, printable, showInstant } from "../../../runtime/text.ts";
import { restRules } from "../../../state-machines/rules/rests.ts";
import type { RestTold, Words } from "../../../state-machines/rules/rule.ts";

export function span(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  const seconds = Math.floor(ms / 1000);
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  const secondsLeft = (ms % 60_000) / 1000;
  const parts = [
    ...(days > 0 ? [`${days} d`] : []),
    ...(hours > 0 ? [`${hours} h`] : []),
    ...(minutes > 0 ? [`${minutes} min`] : []),
    ...(secondsLeft > 0 ? [`${secondsLeft} s`] : []),
  ];
  return parts.join(" ");
}

export function listed(parts: readonly string[]): string {
  return parts.length < 2 ? (parts[0] ?? "nothing") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** The author of an act, if known. */
export function byWhom({ by }: { by?: string | undefined }): string {
  return by === undefined ? "" : printable(` by ${by}`);
}

/** The words from which the sentences of the rules are made. */
export const words: Words = { instant: showInstant, span, counted };

export function labelled(labels: Labels | undefined): string {
  return Object.entries(labels ?? {})
    .map(([name, value]) => printable(`${name}=${value}`))
    .join(", ");
}

export function requested(request: RecordedRequest, policy: { lease: Pick<Policy["lease"], "ttlMs"> }): string {
  const { uses = 1, minUses = 1, ttlMs, session, labels, schemes, exclude, proxyId, holder, token, target } = request;
  return [
    counted(uses, "use") + (minUses > 1 ? ` (at least ${minUses})` : ""),
    ...(ttlMs === undefined || ttlMs === policy.lease.ttlMs ? [] : [`for ${span(ttlMs)}`]),
    ...(labels === undefined ? [] : [`labels ${labelled(labels)}`]),
    ...(schemes === undefined ? [] : [`by ${schemes.join(" or ")}`]),
    ...(session === undefined ? [] : [printable(`in the session ${session}`)]),
    ...(holder === undefined ? [] : [printable(`for the holder ${holder}`)]),
    ...(target === undefined ? [] : [printable(`at ${target}`)]),
    ...(token === true ? ["with a token"] : []),
    ...(proxyId === undefined ? [] : [`only ${proxyId}`]),
    ...(exclude === undefined ? [] : [`not ${shortened(exclude)}`]),
  ].join(", ");
}

function shortened(ids: readonly string[]): string {
  return ids.length <= 5 ? ids.join(", ") : `${ids.slice(0, 5).join(", ")} and ${ids.length - 5} more`;
}

export function used({ n, leaseId, class: kind, status, error }: UseReported): string {
  const what = status ?? error;
  return printable(`use ${n} of ${leaseId}: ${kind}${what === undefined ? "" : ` (${what})`}`);
}

/**
 * The causes of this rest's length: one sentence for each reason.
 * @param earlier reasons of a rest that it lengthens.
 */
export function reasonsOf(of: RestTold, earlier: readonly string[]): string[] {
  const reasons = of.rest.reasons.filter((reason) => !earlier.includes(reason));
  const lines = reasons.map((reason) => printable(restRules[reason].sentence(of, words)));
  return lines.length > 1 ? [...lines, "The longest of these rests counts."] : lines;
}
