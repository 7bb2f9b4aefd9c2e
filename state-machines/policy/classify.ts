// Classes of outcomes: how the policy reads a worker's report.
import type { OutcomeClass } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { Outcome } from "../../protocol/outcome.ts";

/** The class of a worker's report under the policy. A reason or result that the report names outweighs the status. */
export function classify(
  policy: Policy,
  seen: Pick<Outcome, "result" | "reason" | "status" | "error" | "tokenRejected">,
): OutcomeClass | undefined {
  if (seen.tokenRejected === true) return "success";
  if (seen.reason !== undefined) return seen.reason;
  if (seen.result === "success") return "success";
  const byError = seen.error === undefined ? undefined : (inTable(policy.classify.error, seen.error) ?? "proxy-error");
  if (byError !== undefined && (byError !== "success" || seen.result === undefined)) return byError;
  const byStatus = seen.status === undefined ? undefined : statusClass(policy, seen.status);
  if (seen.result === undefined) return byStatus;
  if (byStatus === undefined) return "proxy-error";
  // The target answered, but the worker reports a failure: a captcha, or a wrong page.
  return byStatus === "success" ? "blocked" : byStatus;
}

/** Codes come from outside. A code with the name of an inherited property is not in the table. */
function inTable(table: Record<string, OutcomeClass>, key: string): OutcomeClass | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function statusClass(policy: Policy, status: number): OutcomeClass {
  const { status: table } = policy.classify;
  return table[String(status)] ?? table[`${Math.floor(status / 100)}xx`] ?? "target-error";
}
