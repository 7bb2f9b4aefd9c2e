// A request in the leader's queue. It is decided in one or more turns, in slices where it is larger than a commit, and
// answered once the turn that finished it is stored.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";

export interface Job {
  /**
   * Decides as much as there is room for. True: done, and `answer` may be asked once the turn is stored. "aside": nothing of
   * it can be decided yet, and others need not wait for that.
   */
  run(turn: Turn, room: () => boolean): boolean | "aside";
  answer(): object;
  respond(answer: object): void;
  /** Grants add to the ledger and are refused first when it fills up. */
  grows: boolean;
  /** In the pool's time. */
  arrivedAt: number;
}

/** A job of many small decisions, one per item. */
export function eachOf<T>(items: readonly T[], decide: (turn: Turn, item: T) => void): Job["run"] {
  let next = 0;
  return (turn, room) => {
    while (next < items.length) {
      if (!room()) return false;
      decide(turn, items[next++]!); // Below the length.
    }
    return true;
  };
}

/** A job of one decision. */
export function once(decide: (turn: Turn) => void): Job["run"] {
  return (turn, room) => {
    if (!room()) return false;
    decide(turn);
    return true;
  };
}

/** What those are told who still wait for something when their pool closes. */
export function closed(): Refusal {
  return refuse("unknown-pool", "The pool has been closed.");
}

/** A moment later it may go. */
export function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs: 1000 });
}
