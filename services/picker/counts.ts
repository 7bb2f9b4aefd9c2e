// Refused wishes, ignored outcomes and rejections of tokens that led to nothing are counted here until a commit takes them along, by word.
//
// A flood of refusals must not fill the ledger: alone they make a commit at most once a second, which is also the proof
// that the leader still leads.

import type { WhyIgnored } from "../../events/outcome.ts";
import type { LimitedBy, RefusalWord } from "../../events/refusal.ts";
import type { TokenRejected } from "../../events/token.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { proofMs } from "../../runtime/loop.ts";
import { recordOf } from "../../state-machines/decide/grant.ts";
import { addSkipped, recordSkipped } from "../../state-machines/decide/token.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";

interface Refused {
  count: number;
  /** Of the last. */
  limitedBy: LimitedBy | undefined;
  wish: LeaseRequest | undefined;
}

export class Counts {
  readonly #refused = new Map<RefusalWord, Refused>();
  readonly #ignored = new Map<WhyIgnored, number>();
  #skipped: TokenRejected[] = [];
  #refusedSince = Infinity;

  /** When the refusals counted so far must be recorded, in the pool's time; Infinity: there are none. */
  get dueAt(): number {
    return this.#refusedSince + proofMs;
  }

  /** @param wish undefined: it could not be read. */
  refused({ code, limitedBy }: Refusal, wish?: LeaseRequest): void {
    const count = (this.#refused.get(code)?.count ?? 0) + 1;
    this.#refused.set(code, { count, limitedBy, wish });
  }

  ignored(why: WhyIgnored): void {
    this.#ignored.set(why, (this.#ignored.get(why) ?? 0) + 1);
  }

  /** @param now.proven whether the leader has been acknowledged lately: if not, the refusals are its proof. */
  record(turn: Turn, now: { proven: boolean }): void {
    for (const [why, count] of this.#ignored) turn.emit({ type: "OutcomesIgnored", why, count });
    this.#ignored.clear();
    for (const event of turn.skipped) addSkipped(this.#skipped, event);
    if (this.#refused.size === 0 && this.#skipped.length === 0) return;
    this.#refusedSince = Math.min(this.#refusedSince, turn.at);
    if (turn.events.length === 0 && now.proven && turn.at < this.dueAt) return;
    for (const [code, { count, limitedBy, wish }] of this.#refused) {
      turn.emit({
        type: "WishesRefused",
        code,
        count,
        ...(limitedBy === undefined ? {} : { limitedBy }),
        ...(wish === undefined ? {} : { wish: recordOf(wish) }),
      });
    }
    recordSkipped(turn, this.#skipped);
    this.#skipped = [];
    this.#refused.clear();
    this.#refusedSince = Infinity;
  }
}
