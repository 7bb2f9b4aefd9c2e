// What an outcome is: the policy's reading of what a worker saw.
import type { OutcomeClass } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";

/** The policy's reading of what a worker saw. A reason or result that it names itself counts for more than a status. */
export function classify(
  policy: Policy,
  seen: {
    result?: "success" | "failure" | undefined;
    reason?: OutcomeClass | undefined;
    status?: number | undefined;
    error?: string | undefined;
    tokenRejected?: boolean | undefined;
  },
): OutcomeClass | undefined {
  if (seen.tokenRejected === true) return "success";
  if (seen.reason !== undefined) return seen.reason;
  if (seen.result === "success") return "success";
  const byError = seen.error === undefined ? undefined : (inTable(policy.classify.error, seen.error) ?? "proxy-error");
  if (byError !== undefined && (byError !== "success" || seen.result === undefined)) return byError;
  const byStatus = seen.status === undefined ? undefined : statusClass(policy, seen.status);
  if (seen.result === undefined) return byStatus;
  if (byStatus === undefined) return "proxy-error";
  // The target answered, and yet the worker calls it a failure: a captcha, or another page than was asked for.
  return byStatus === "success" ? "blocked" : byStatus;
}

/** Codes come from outside: one that is called like something every object has is not in the table. */
function inTable(table: Record<string, OutcomeClass>, key: string): OutcomeClass | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function statusClass(policy: Policy, status: number): OutcomeClass {
  const { status: table } = policy.classify;
  return table[String(status)] ?? table[`${Math.floor(status / 100)}xx`] ?? "target-error";
}
