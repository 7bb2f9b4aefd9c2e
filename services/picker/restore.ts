// The first commits of a pool's ledger after its backup. They are written before any picker runs. The commits of the
// backup are in the archive, and the chain goes on from the last of them.
import { randomBytes } from "node:crypto";
import { encodeCommit } from "../../events/commit.ts";
import type { Backup } from "../../events/restore.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { decide } from "../../state-machines/decide.ts";
import { endCommit } from "../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { Sheet } from "./sheet.ts";
import type { Mark } from "./snapshots.ts";

/**
 * @param state the fold of the backup. It has the new commits afterwards.
 * @param given.hash of the backup's last commit.
 * @returns the last commit.
 * @throws Fault "in-use" if the stream has commits of the pool.
 */
export async function commitRestored(
  state: PoolState,
  given: { ledger: Pick<Ledger, "append" | "now">; leader: string; version: string; hash: string; backup: Backup },
): Promise<Mark> {
  const { ledger, leader, version, backup } = given;
  const candidates = new Candidates(state);
  const at = Math.max(state.at, await ledger.now());
  let last: Mark = { n: state.commits, seq: 0, hash: given.hash };
  for (let isSettled = false; !isSettled; ) {
    const sheet = new Sheet();
    const turn = new Turn(state, { at, chance: randomBytes(16).toString("hex"), candidates, onEvent: sheet.write });
    if (last.seq === 0) decide(turn, { type: "claim", leader, version });
    const answer = decide(turn, { type: "restore", ...backup });
    isSettled = answer !== "later" && "settled" in answer && answer.settled;
    const head = { n: state.commits + 1, prev: last.hash, term: state.term, at, cursor: state.cursor };
    const bytes = Buffer.from(encodeCommit({ ...head, ...(turn.chance && { chance: turn.chance }) }, sheet.events));
    const id = randomBytes(12).toString("base64url");
    const stored = await ledger.append({ id, bytes, afterSeq: last.seq });
    if (stored === "fenced")
      throw new Fault(
        "in-use",
        `The pool ${state.pool} has a ledger there already. Restore into an empty installation.`,
      );
    endCommit(state, head);
    last = { n: head.n, seq: stored.seq, hash: hashOf(bytes) };
  }
  return last;
}
