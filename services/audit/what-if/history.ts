// One of the two compared histories: a state, the decisions about it, and the independent checker that checks them. The
// commits of the alternative history are made like a leader's, so that the checker reads both alike.
import { hash } from "node:crypto";
import { type CommitEnvelope, encodeCommit } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import { Candidates } from "../../../state-machines/candidates/candidates.ts";
import type { Answer, Command } from "../../../state-machines/command.ts";
import { Turn } from "../../../state-machines/decide/turn.ts";
import { decide } from "../../../state-machines/decide.ts";
import { endCommit } from "../../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { Checker } from "../checker/checker.ts";

const looksMax = 100;

export class History {
  readonly state: PoolState;
  readonly candidates: Candidates;
  readonly checker: Checker;
  turn: Turn;

  constructor(state: PoolState, checker = new Checker()) {
    this.state = state;
    this.checker = checker;
    this.candidates = new Candidates(state);
    this.turn = new Turn(state, { at: state.at, chance: "0".repeat(32), candidates: this.candidates });
  }

  begin(at: number, chance: string, onEvent?: (event: Event) => void): void {
    const { state, candidates } = this;
    this.turn = new Turn(state, { at, chance, newId: noId, candidates, ...(onEvent === undefined ? {} : { onEvent }) });
  }

  /** Decides the command. If a lease request finds usage rests that are due, it is decided again after them. */
  decide(command: Command): Answer | "later" {
    for (let looks = 0; looks < looksMax; looks++) {
      const answer = decide(this.turn, command);
      if (answer !== "later") return answer;
    }
    return "later";
  }

  /** Ends the turn with its own commit if it has events. The checker checks it. */
  commit(head: Pick<CommitEnvelope, "term" | "cursor">): void {
    const { turn, state, checker } = this;
    if (turn.events.length === 0) return;
    const { chance } = turn;
    const n = state.commits + 1;
    const at = turn.at;
    const { term, cursor } = head;
    const whole = { n, prev: checker.hash, term, at, cursor, ...(chance === undefined ? {} : { chance }) };
    endCommit(state, { n, cursor });
    const text = encodeCommit(
      whole,
      turn.events.map((event) => JSON.stringify(event)),
    );
    checker.check({ seq: 0, storedAt: 0, line: n, bytes: Buffer.from(text) });
  }
}

/** Nothing begins here that is not in the record. If something does, it shows as a difference. */
const noId = (): string => "0".repeat(22);

/** The chance for a commit that recorded none because nothing was drawn in it. */
export function chanceFor(commit: Pick<CommitEnvelope, "n" | "chance">, turnsBefore: number): string {
  return turnsBefore === 0 && commit.chance !== undefined
    ? commit.chance
    : hash("sha256", `what if ${commit.n} ${turnsBefore}`, "hex").slice(0, 32);
}
