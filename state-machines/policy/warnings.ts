// Warnings: what a policy says and can never happen. It is accepted all the same; whoever wrote it meant something else.
// Each is proven from the numbers of the policy alone: what is merely unlikely is not warned of.
import { reasons } from "../../events/outcome.ts";
import type { Policy, RateWindow } from "../../events/policy.ts";

/** Sentences, each beginning with the field. @param rates the policy's windows: none where it has no rate. */
export function warningsFor(policy: Policy, rates: readonly RateWindow[]): string[] {
  return [
    ...ofToken(policy),
    ...ofRates(rates),
    ...ofConcurrency(policy, rates),
    ...ofStrategy(policy, rates),
    ...ofFailures(policy, rates),
    ...ofBackoff(policy),
  ];
}

function ofToken({ token }: Policy): string[] {
  if (token === null || token.refreshAheadMs === 0 || token.source.life !== null) return [];
  return ["token.refreshAheadMs: source.life is null, so that no token is known to end and none is refreshed ahead"];
}

function ofRates(rates: readonly RateWindow[]): string[] {
  const warnings: string[] = [];
  for (const [i, narrow] of rates.entries()) {
    for (const [j, wide] of rates.entries()) {
      if (narrow.windowMs >= wide.windowMs) continue;
      if (narrow.limit >= wide.limit) {
        warnings.push(`rate: window ${i + 1} (${said(narrow)}) can never bind, ${said(wide)} is stricter`);
      } else if (mostIn(narrow, wide.windowMs) <= wide.limit) {
        const most = `${said(narrow)} lets at most ${mostIn(narrow, wide.windowMs)} through`;
        warnings.push(`rate: window ${j + 1} (${said(wide)}) can never bind, ${most}`);
      }
    }
  }
  return warnings;
}

/** Each open lease has a use at least that counts for its usage quota and, unless uses count from their grants, for its rate. */
function ofConcurrency({ concurrency, countFrom, usage }: Policy, rates: readonly RateWindow[]): string[] {
  const limits = [...(countFrom === "report" ? rates.map(({ limit }) => limit) : []), usage?.limit ?? Infinity];
  const most = Math.min(...limits);
  if (concurrency === null || concurrency <= most) return [];
  return [`concurrency: the other limits let at most ${most} leases be open, so ${concurrency} can never bind`];
}

function ofStrategy({ strategy }: Policy, rates: readonly RateWindow[]): string[] {
  if (strategy.kind !== "least-used" || rates.length > 0) return [];
  return ["strategy: with no rate there is no window, so least-used takes the least recently used"];
}

function ofFailures({ countFrom, failures, outcomes, streak }: Policy, rates: readonly RateWindow[]): string[] {
  const countsAtAll = Object.values(outcomes).some((rule) => rule.counts);
  if (!countsAtAll && (failures !== null || streak !== null))
    return ["outcomes: no outcome counts as a failure, so the failures and streak rules can never fire"];
  // Counted from their grants, uses of an hour may all be reported in one minute.
  if (failures === null || rates.length === 0 || countFrom === "grant") return [];
  const most = Math.min(...rates.map((each) => mostIn(each, failures.windowMs)));
  if (most > failures.limit) return [];
  const fit = `at most ${most} uses fit into ${failures.windowMs} ms`;
  return [`failures: ${fit}, so more than ${failures.limit} failures can never be`];
}

function ofBackoff({ backoff, outcomes }: Policy): string[] {
  if (backoff.kind === "none") return [];
  if (Object.values(outcomes).every(({ rest }) => rest === "none"))
    return ["backoff: no outcome rests by it, so it can never fire"];
  if (backoff.kind === "fixed") return [];
  const unused = reasons.filter((reason) => backoff.baseMsBy[reason] !== undefined && outcomes[reason].rest === "none");
  return unused.map((reason) => `backoff.baseMsBy.${reason}: outcomes.${reason} rests nothing, so it can never fire`);
}

/** So many uses fit into any span of this length, at most. */
function mostIn({ limit, windowMs }: RateWindow, spanMs: number): number {
  return limit * (Math.ceil(spanMs / windowMs) + 1);
}

function said({ limit, windowMs }: RateWindow): string {
  return `${limit} in ${windowMs} ms`;
}
