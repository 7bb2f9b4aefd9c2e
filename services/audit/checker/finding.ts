// The findings of an audit: a rule that was broken, and the place. Their number is bounded, because one lost commit may
// make thousands of later ones look wrong.

import type { ExitRuleName } from "../../../events/refusal.ts";

/** `chain` … `cursor` are about the ledger as a document, the others about decisions. */
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
  | "archive"
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
/** Maximum length of a finding's text. Names and types in a ledger are untrusted, and may have any length. */
const whatCharsMax = 500;

export class Findings {
  readonly listed: Finding[] = [];
  /** Facts that a person should know, and that are not wrong decisions. */
  readonly notices: Finding[] = [];
  count = 0;
  noticeCount = 0;
  readonly byRule: Partial<Record<Rule, number>> = {};
  place: Place = { n: 0, sequence: 0, line: 0, at: 0 };
  /** A commit is missing or unreadable, so the known state is no longer certain. */
  damaged = false;
  /** Findings of commits before the requested range are counted, not listed. */
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
