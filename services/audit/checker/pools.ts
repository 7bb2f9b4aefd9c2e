// Checks a ledger's events about the pool itself: its leaders, its policy, its opening and closing, its refusals.
import type { CommitEnvelope } from "../../../events/commit.ts";
import { type Policy, policySchema } from "../../../events/policy.ts";
import type { LeaderClaimed, PolicyChanged, PoolClosed, PoolOpened } from "../../../events/pool.ts";
import type { LedgerRestored } from "../../../events/restore.ts";
import type { SegmentArchived } from "../../../events/segment.ts";
import { regroup } from "./exits.ts";
import { holdUnreported } from "./leases.ts";
import type { Model } from "./model.ts";
import { forgetWhereOutOfScope } from "./tokens.ts";

export function checkOpened(model: Model, event: PoolOpened): void {
  const { findings } = model;
  if (model.isOpen && !model.isDraining) findings.add("pool", "PoolOpened while the pool is already open");
  if (model.pool !== "" && event.pool !== model.pool)
    findings.add("pool", `the pool is called ${event.pool}, not ${model.pool}`);
  if (model.wasOpened && event.keyFingerprint !== model.keyFingerprint) {
    findings.add("pool", "the pool is opened under another installation's key");
  }
  model.pool = event.pool;
  model.keyFingerprint = event.keyFingerprint;
  model.openedAt = model.at;
  model.isOpen = true;
  model.isDraining = false;
  model.wasOpened = true;
  checkPolicy(model, event);
}

export function checkPolicy(model: Model, event: PolicyChanged | PoolOpened): void {
  const { findings, tally } = model;
  if (event.version !== model.policyVersion + 1) {
    findings.add("policy", `the policy is version ${event.version}, after ${model.policyVersion}`);
  }
  model.policyVersion = event.version;
  if (!tally.silent) tally.policies++;
  const policy = readable(model, event.policy);
  if (policy === undefined) return;
  model.forgetRetired();
  const before = model.policy;
  const isRegrouped = before !== undefined && before.limitBy !== policy.limitBy;
  if (isRegrouped && isAtWork(model)) {
    findings.add("policy", "limitBy is changed while leases are open or windows are not empty");
  }
  // Uses that counted until now may already be forgotten under the old windows.
  const floors = new Map([...model.exits.values()].map((exit) => [exit, model.at - model.keepMs(exit)]));
  model.policy = policy;
  if (isRegrouped) regroup(model);
  if (before?.countFrom === "grant" && policy.countFrom === "report") holdUnreported(model);
  for (const exit of model.exits.values()) {
    model.limitAnew(exit);
    exit.floor = Math.max(exit.floor, floors.get(exit) ?? 0);
  }
  model.forgetSessions();
  for (const token of model.tokens.values()) forgetWhereOutOfScope(model, token);
}

/** Fields that earlier versions did not have. */
const added = {
  session: { ttlMs: 600_000, patienceMs: 10_000, max: 100_000 },
  holder: { leasesMax: null },
  token: null,
};

/**
 * A copy, so that limits derived from it are its own. Fields that an earlier version did not have are off. Undefined if
 * it is not a valid policy.
 */
function readable({ findings }: Model, policy: Policy): Policy | undefined {
  const read = policySchema.safeParse({ ...added, ...(policy as object) });
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  findings.add("policy", `not a valid policy: ${issue?.path.join(".") || "the document"}: ${issue?.message ?? ""}`);
  findings.damaged = true;
  return undefined;
}

function isAtWork(model: Model): boolean {
  if (model.openCount > 0) return true;
  for (const exit of model.exits.values()) {
    if (exit.limits.rates.length > 0 && model.slotsFrom(exit, model.at - model.keepMs(exit)) > 0) return true;
  }
  return false;
}

export function checkClosed(model: Model, event: PoolClosed): void {
  const { findings } = model;
  if (!model.isOpen) findings.add("pool", "PoolClosed while the pool is not open");
  const drains = "the pool is to close with its last lease";
  if (event.draining && model.openCount === 0) findings.add("pool", `${drains}, and none is open`);
  else if (event.draining && model.isDraining) findings.add("pool", `${drains} a second time`);
  if (event.draining) model.isDraining = true;
  else model.isOpen = false;
}

/** Each range follows the one before it, and ends before the commit that says so. */
export function checkArchived(model: Model, event: SegmentArchived, n: number): void {
  const { findings } = model;
  const { first, last } = event;
  if (first !== model.archivedTo + 1)
    findings.add("archive", `commits ${first} to ${last} are archived, after those up to ${model.archivedTo}`);
  if (last < first || last >= n)
    findings.add("archive", `commit ${n} says that commits ${first} to ${last} are archived`);
  if ((event.closed === true) === model.isOpen) findings.add("pool", saysOtherwise(model));
  model.archivedTo = last;
}

function saysOtherwise({ isOpen }: Model): string {
  return `the pool is ${isOpen ? "open" : "closed"}, and the event says otherwise`;
}

/** The leases that were granted after the backup must have run out, with the slots of their uses. */
export function checkRestored(model: Model, event: LedgerRestored, { n, events }: CommitEnvelope): void {
  const { findings, at, policy } = model;
  const { last, until } = event;
  if (last !== n - 1) findings.add("archive", `commit ${n} restores a ledger up to commit ${last}`);
  if ((events[0] as { type?: unknown }).type !== "LeaderClaimed")
    findings.add("term", "a ledger is restored in a commit that claims no term");
  const rates = [policy?.rate ?? []].flat();
  const windowMs = Math.max(0, ...rates.map((each) => each.windowMs));
  const least = at + (policy?.lease.ttlMsMax ?? 0) + (policy?.lease.graceMs ?? 0) + windowMs;
  if (until < least)
    findings.add("rate", `leases are granted again from ${until}, and uses after the backup count until ${least}`);
  if ((event.closed === true) === model.isOpen) findings.add("pool", saysOtherwise(model));
  model.archivedTo = last;
  model.restored = { at, until };
}

/** @param given.first of the commit's events. `isBeginning`: of the ledger. */
export function checkClaim(
  model: Model,
  event: LeaderClaimed,
  given: { term: number; before: number; first: boolean; isBeginning: boolean },
): void {
  const { findings, tally } = model;
  // A ledger goes on with the terms of one of its pool that was deleted or lost.
  const follows = given.isBeginning ? event.term > 0 : event.term === given.before + 1;
  if (!follows || event.term !== given.term) {
    findings.add(
      "term",
      `${event.leader} claims term ${event.term} in a commit of term ${given.term}, after term ${given.before}`,
    );
  }
  model.takesOver = true;
  model.writer = event.version === undefined ? "" : `, and version ${event.version} of Remuda wrote it`;
  if (!given.first) findings.add("term", `${event.leader} claims the pool in the middle of a commit`);
  if (!tally.silent) tally.terms.add(event.term);
}
