// Events that must have occurred in many seeds. Otherwise a run without findings proves nothing.
import { outcomeClasses } from "../../events/outcome.ts";
import { restReasons } from "../../events/proxy.ts";
import { refusalNumbers } from "../../events/refusal.ts";
import { rejectActions } from "../../events/token.ts";
import { strategyKinds } from "./setting.ts";

/** Error codes that come from the layers of NATS and HTTP, which the simulator leaves out. */
const elsewhere = new Set(["too-large", "forbidden"]);

const wanted: string[] = [
  ...outcomeClasses.map((each) => `outcome: ${each}`),
  ...restReasons.map((reason) => `rest: ${reason}`),
  ...Object.keys(refusalNumbers).flatMap((word) => (elsewhere.has(word) ? [] : [`refusal: ${word}`])),
  ...strategyKinds.map((strategy) => `strategy: ${strategy}`),
  ...["unreadable", "unknown-lease", "n-missing", "duplicate"].map((why) => `ignored: ${why}`),
  "outcome: late",
  "outcome: of an older epoch",
  "outcome: beyond the uses granted",
  "rest: lengthened",
  "rest: joined in a later commit",
  "rest: ended, over",
  "rest: ended, revived",
  "retired for its streak",
  "lease: a block",
  "lease: several at once",
  "lease: fewer than asked for",
  "lease: completed",
  "lease: released",
  "lease: expired",
  "lease: renewed",
  "lease: of a bound session",
  "refusal: for the holder's cap",
  "refusal: for the session's proxy",
  "policy: another strategy",
  "lease: the same request again",
  "release: uses returned",
  "wait: served",
  "wait: cancelled",
  "retryAfterMs tried",
  "lease: with a token",
  "outcome: tokenRejected",
  "token: request at the site",
  "token: unavailable",
  ...["asked", "rejected", "expired", "ahead"].map((why) => `TokenRequested: ${why}`),
  "TokenMinted",
  ...["deadline", "unreachable", "status", "no-value"].map((why) => `TokenRefused: ${why}`),
  ...rejectActions.map((action) => `TokenRejected: ${action}`),
  "token.result: not accepted",
  "silence",
  "two leaders at once",
  "claim: outcomes to catch up with",
  "policy: changed while leases are open",
  "policy: refused",
  "proxy: retired and added again",
  "proxy: another exit",
  "pool: closed",
  "pool: drains",
  "exits exactly at their limit",
  "kills",
  "hangs",
  "sleeps",
  "broker: outcomes lost in a crash",
  "broker: sequences used again",
  "commits lost",
  "commits stored without an answer",
  "commits stored late",
];

/** The rarest event occurs about once in a hundred runs. */
export const seedsForCoverage = 1000;

export function missingIn(seen: ReadonlyMap<string, number>): string[] {
  return wanted.filter((what) => (seen.get(what) ?? 0) === 0);
}
