// The future without further commands: a second pool is folded from the ledger, and its time runs on.
import { decodeCommit } from "../../events/commit.ts";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { decide } from "../../state-machines/decide.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { pool } from "./service.ts";

const chance = "00000000000000000000000000000001";

export function replay(commits: readonly StoredCommit[]): PoolState {
  const state = new PoolState(pool);
  for (const stored of commits) foldCommit(state, decodeCommit(Buffer.from(stored.bytes).toString()));
  return state;
}

/** Would the request be granted `ms` later, if only time passed? Undefined: cannot be determined. */
export function leasesAt(
  commits: readonly StoredCommit[],
  body: Record<string, unknown>,
  when: { from: number; ms: number },
): boolean | undefined {
  const state = replay(commits);
  const candidates = new Candidates(state);
  advance(state, when.from);
  const end = when.from + when.ms;
  // Continue even if something that was due was not done.
  for (let at = Math.max(state.at, wakeAt(state)); at <= end; at = Math.max(at + 1, wakeAt(state))) {
    while (!tick(new Turn(state, { at, chance, candidates })));
  }
  const { requestId: _id, ...fresh } = body;
  const turn = new Turn(state, { at: end, chance, candidates });
  const request = leaseRequestSchema.parse(fresh);
  const answer = decide(turn, { type: "lease", request, leaseId: "l_fork", deadline: 0 });
  if (answer === "later") return undefined;
  if ("lease" in answer) return true;
  return "refusal" in answer && answer.refusal.code === "pool-exhausted" ? false : undefined;
}
