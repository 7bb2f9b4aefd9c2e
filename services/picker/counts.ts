// Refused wishes, ignored outcomes and rejections of tokens that led to nothing are counted here until a commit takes them along, by word.
//
// A flood of refusals must not fill the ledger: alone they make a commit at most once a second, which is also the proof
// that the leader still leads.
import type { WhyIgnored } from "../../events/outcome.ts";
import type { LimitedBy, Refusal, RefusalWord } from "../../events/refusal.ts";
import type { TokenRejected } from "../../events/token.ts";
import { proofMs } from "../../runtime/loop.ts";
import { addSkipped, recordSkipped } from "../../state-machines/refresh.ts";
import type { Turn } from "../../state-machines/turn.ts";

export class Counts {
  readonly #refused = new Map<RefusalWord, { count: number; limitedBy: LimitedBy | undefined }>();
  readonly #ignored = new Map<WhyIgnored, number>();
  #skipped: TokenRejected[] = [];
  #refusedSince = Infinity;

  /** When the refusals counted so far must be recorded, in the pool's time; Infinity: there are none. */
  get dueAt(): number {
    return this.#refusedSince + proofMs;
  }

  refused(refusal: Refusal): void {
    const counted = this.#refused.get(refusal.code);
    if (counted === undefined) this.#refused.set(refusal.code, { count: 1, limitedBy: refusal.limitedBy });
    else {
      counted.count++;
      counted.limitedBy = refusal.limitedBy;
    }
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
    for (const [code, { count, limitedBy }] of this.#refused) {
      turn.emit({ type: "WishesRefused", code, count, ...(limitedBy === undefined ? {} : { limitedBy }) });
    }
    recordSkipped(turn, this.#skipped);
    this.#skipped = [];
    this.#refused.clear();
    this.#refusedSince = Infinity;
  }
}
