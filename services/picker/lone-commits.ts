// Commits to a ledger that no picker leads: after a backup was restored, and to the ledgers of closed pools. The first of
// them claims the ledger, so it fails if another picker has claimed it.
import { randomBytes } from "node:crypto";
import { encodeCommit } from "../../events/commit.ts";
import type { Backup } from "../../events/restore.ts";
import type { Manifest } from "../../runtime/archive/segment.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import type { Command } from "../../state-machines/command.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { decide } from "../../state-machines/decide.ts";
import { endCommit } from "../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { Sheet } from "./sheet.ts";
import type { Mark } from "./snapshots.ts";

interface Given {
  ledger: Pick<Ledger, "append" | "now">;
  /** The name in the ledger. */
  leader: string;
  /** Of Remuda. */
  version: string;
}

/**
 * The first commits after a backup. The commits of the backup are in the archive, and the chain goes on from the last of
 * them. @param given.hash of that commit.
 */
export async function commitRestored(
  state: PoolState,
  { hash, backup, ...given }: Given & { hash: string; backup: Backup },
): Promise<Mark> {
  return commitAlone(state, { ...given, last: { seq: 0, hash } }, { type: "restore", ...backup });
}

/** @param snapshot base64url SHA-256 of a snapshot that has its commits. */
export function noteOf({ first, last, sha256: hash }: Manifest, snapshot: string): Command & { type: "note-archived" } {
  const segment = { first: first.n, last: last.n, sequence: last.sequence, hash, snapshot };
  return { type: "note-archived", segment };
}

/**
 * Decides the command until it is settled, in as many commits as that takes.
 * @param state the fold of the ledger. It has the new commits afterwards.
 * @param given.last the ledger's last commit in the stream; sequence 0: none is there.
 * @returns the last commit.
 * @throws Fault "in-use" if another picker has written since.
 */
export async function commitAlone(
  state: PoolState,
  { ledger, leader, version, last: { seq, hash } }: Given & { last: Pick<Mark, "seq" | "hash"> },
  command: Command,
): Promise<Mark> {
  const candidates = new Candidates(state);
  const at = Math.max(state.at, await ledger.now());
  const first = state.commits;
  let last: Mark = { n: state.commits, seq, hash };
  for (let isSettled = false; !isSettled; ) {
    const sheet = new Sheet();
    const turn = new Turn(state, { at, chance: randomBytes(16).toString("hex"), candidates, onEvent: sheet.write });
    if (last.n === first) decide(turn, { type: "claim", leader, version });
    const answer = decide(turn, command);
    if (answer !== "later" && "accepted" in answer && !answer.accepted)
      throw new Error("the archived commits do not follow those before them");
    isSettled = answer === "later" || !("settled" in answer) || answer.settled;
    const head = { n: state.commits + 1, prev: last.hash, term: state.term, at, cursor: state.cursor };
    const bytes = Buffer.from(encodeCommit({ ...head, ...(turn.chance && { chance: turn.chance }) }, sheet.events));
    const id = randomBytes(12).toString("base64url");
    const stored = await ledger.append({ id, bytes, afterSeq: last.seq });
    if (stored === "fenced")
      throw new Fault("in-use", `Another picker has written to the ledger of pool ${state.pool} meanwhile.`);
    endCommit(state, head);
    last = { n: head.n, seq: stored.seq, hash: hashOf(bytes) };
  }
  return last;
}
