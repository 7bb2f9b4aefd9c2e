// Counts of frequent cases: refused lease requests, ignored outcomes, and token rejections without effect. A commit
// takes them along as sums. Also, in memory only, the rules that held requests back.
//
// A flood of refusals must not fill the ledger. Refusals alone make a commit at most once a second, which is also the
// proof that the leader still leads.
import type { WhyIgnored } from "../../events/outcome.ts";
import { type LimitedBy, type LimitName, limitNames, type RefusalWord } from "../../events/refusal.ts";
import type { TokenRejected } from "../../events/token.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { recordOf } from "../decide/grant.ts";
import { addSkipped, recordSkipped } from "../decide/token.ts";
import type { Turn } from "../decide/turn.ts";

/** For this long an acknowledgement proves that the leader leads. */
const refusalsWaitMs = 1000;

interface Refused {
  count: number;
  /** Of the last one. */
  limitedBy: LimitedBy | undefined;
  request: LeaseRequest | undefined;
}

export class Counts {
  /** By rule: the lease requests that it held back at first. */
  readonly heldBack = Object.fromEntries(limitNames.map((name) => [name, 0])) as Record<LimitName, number>; // All names.
  cancelled = 0;
  readonly #refused = new Map<RefusalWord, Refused>();
  readonly #ignored = new Map<WhyIgnored, number>();
  #skipped: TokenRejected[] = [];
  #refusedSince = Infinity;

  /** When the counted refusals must be recorded. Infinity: there are none. */
  get dueAt(): number {
    return this.#refusedSince + refusalsWaitMs;
  }

  /** @param request undefined: it could not be read. */
  refused({ code, limitedBy }: Refusal, request?: LeaseRequest): void {
    const count = (this.#refused.get(code)?.count ?? 0) + 1;
    this.#refused.set(code, { count, limitedBy, request });
  }

  ignored(why: WhyIgnored): void {
    this.#ignored.set(why, (this.#ignored.get(why) ?? 0) + 1);
  }

  heldBackBy(limitedBy: LimitedBy | undefined): void {
    for (const [rule, proxies] of Object.entries(limitedBy ?? {})) {
      if (proxies > 0) this.heldBack[rule as LimitName]++; // Its own keys.
    }
  }

  /** @param now.proven the leader was acknowledged lately. If not, the refusals are recorded as its proof. */
  record(turn: Turn, now: { proven: boolean }): void {
    for (const [why, count] of this.#ignored) turn.emit({ type: "OutcomesIgnored", why, count });
    this.#ignored.clear();
    for (const event of turn.skipped) addSkipped(this.#skipped, event);
    if (this.#refused.size === 0 && this.#skipped.length === 0) return;
    this.#refusedSince = Math.min(this.#refusedSince, turn.at);
    if (turn.events.length === 0 && now.proven && turn.at < this.dueAt) return;
    for (const [code, { count, limitedBy, request }] of this.#refused) {
      turn.emit({
        type: "RequestsRefused",
        code,
        count,
        ...(limitedBy === undefined ? {} : { limitedBy }),
        ...(request === undefined ? {} : { request: recordOf(request) }),
      });
    }
    recordSkipped(turn, this.#skipped);
    this.#skipped = [];
    this.#refused.clear();
    this.#refusedSince = Infinity;
  }
}
