// What an audit finds: a rule that was not kept, and the place. Bounded, because one lost commit may make thousands of
// later ones look wrong.

import type { ExitRuleName } from "../../../events/refusal.ts";

/** `chain` … `cursor` are about the ledger as a document, the others about what was decided. */
export type Rule =
  | "unreadable"
  | "number"
  | "chain"
  | "term"
  | "time"
  | "cursor"
  | "tail"
  | "seal"
  | "head"
  | "unknown-event"
  | "field"
  | "chart"
  | "pool"
  | "policy"
  | "request"
  | "request"
  | ExitRuleName
  | "holder"
  | "refusal"
  | "chance"
  | "session"
  | "rest"
  | "epoch"
  | "score"
  | "streak"
  | "outcome"
  | "slot"
  | "closing"
  | "expiry"
  | "proxy"
  | "token";

export interface Place {
  /** Number of the commit. */
  n: number;
  /** In the stream; 0: not known. */
  sequence: number;
  /** In the file; 0: it came from a stream. */
  line: number;
  /** The commit's time, ms; 0: not known. */
  at: number;
}

export interface Finding extends Place {
  rule: Rule;
  what: string;
  /** Something before it is missing or changed, so it may only be a consequence. */
  afterDamage?: true;
}

export const findingsMax = 1000;
/** Of what is told: names and types in a ledger may be anybody's, and of any length. */
const whatCharsMax = 500;

export class Findings {
  readonly listed: Finding[] = [];
  /** True things that a person should know of, and that nobody decided wrongly. */
  readonly notices: Finding[] = [];
  count = 0;
  noticeCount = 0;
  readonly byRule: Partial<Record<Rule, number>> = {};
  place: Place = { n: 0, sequence: 0, line: 0, at: 0 };
  /** A commit is missing or unreadable: what is known of the state is no longer sure. */
  damaged = false;
  /** Findings of commits before the range that was asked for are counted, not told. */
  silent = false;
  silenced = 0;

  add(rule: Rule, what: string, place: Place = this.place): void {
    if (this.silent) {
      this.silenced++;
      return;
    }
    this.count++;
    this.byRule[rule] = (this.byRule[rule] ?? 0) + 1;
    if (this.listed.length >= findingsMax) return;
    this.listed.push({ rule, ...place, what: cut(what), ...(this.damaged ? { afterDamage: true } : {}) });
  }

  notice(rule: Rule, what: string): void {
    if (this.silent) return;
    this.noticeCount++;
    if (this.notices.length < findingsMax) this.notices.push({ rule, ...this.place, what: cut(what) });
  }
}

function cut(what: string): string {
  return what.length <= whatCharsMax ? what : `${what.slice(0, whatCharsMax)}…`;
}
