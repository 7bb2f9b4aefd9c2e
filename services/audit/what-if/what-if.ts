// Replays a ledger under another policy. The service's own decisions decide the recorded requests, and the result is
// shown beside the record. The independent checker checks and counts both histories in the same way.
import type { Event } from "../../../events/event.ts";
import { exitRuleNames } from "../../../events/refusal.ts";
import { Fault } from "../../../runtime/fault.ts";
import { wakeAt } from "../../../state-machines/decide/timers.ts";
import { restore, snapshotOf } from "../../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../../state-machines/fold/state.ts";
import { Checker } from "../checker/checker.ts";
import { decoded, folded, mustFollow, noCommit, placeOf } from "../history.ts";
import { isAfter, isBefore, type Moment } from "../moment.ts";
import type { LedgerSource } from "../source.ts";
import { AlternativeHistory } from "./alternative-history.ts";
import { RecordedHistory } from "./recorded-history.ts";

const ofOneHistory = new Set<string>(["HeadSigned", "SegmentArchived"]);
const tokenTypes = new Set<string>(["TokenRequested", "TokenMinted", "TokenRefused", "TokenRejected"]);

export interface WhatIfAsked {
  /** A partial policy. */
  policy: object;
  from?: Moment | undefined;
  to?: Moment | undefined;
  /** How long a lease request waits if it cannot be granted at once. */
  waitMs: number;
  onProgress?: ((done: number) => void) | undefined;
}

export type WhatIf = Awaited<ReturnType<typeof whatIf>>;

/** @throws Fault if the range is empty, the policy is not valid, or the ledger is damaged. */
export async function whatIf(source: LedgerSource, asked: WhatIfAsked) {
  const { from, to, waitMs } = asked;
  const record = new RecordedHistory(new PoolState(""), new Checker());
  const otherChecker = new Checker({ isOther: true });
  if ("token" in asked.policy)
    throw new Fault("fix-setup", "--policy: what-if does not decide tokens again. Leave token out.");
  const patch = asked.policy as Record<string, unknown>;
  let other: AlternativeHistory | undefined;
  let first: { n: number; at: number } | undefined;
  let last: typeof first;
  const same = { commits: 0, of: 0 };
  const tokens = { requests: 0, begun: 0, minted: 0, refused: 0 };
  record.checker.silent = otherChecker.silent = true;
  reading: for await (const batch of source.read()) {
    for (const entry of batch) {
      const commit = decoded(source, entry);
      const place = { at: commit.at, sequence: placeOf(entry, commit) };
      if (to !== undefined && isAfter(to, place)) break reading;
      mustFollow(source, entry, { commit, after: { n: record.state.commits, hash: record.checker.hash } });
      if (from !== undefined && isBefore(from, place)) {
        folded(source, entry, () => record.skip(entry, commit));
        otherChecker.check(entry);
        continue;
      }
      if (other === undefined) {
        other = new AlternativeHistory(copyOf(record.state), { checker: otherChecker, patch, waitMs });
        record.checker.silent = otherChecker.silent = false;
      }
      const recordedWakeAt = wakeAt(record.state);
      const inputs = folded(source, entry, () => record.replay(entry, commit));
      if (inputs === undefined) break reading;
      other.passTo(commit.at, recordedWakeAt, commit.n);
      const events = other.replay(commit, inputs, record.leads);
      countTokens(tokens, commit.events as Event[]);
      same.of++;
      if (pictureOf(events) === pictureOf(commit.events as Event[])) same.commits++;
      last = { n: commit.n, at: commit.at };
      first ??= last;
    }
    asked.onProgress?.(source.done);
  }
  if (other === undefined) throw noCommit(source);
  const { difference } = record;
  return {
    from: first,
    to: last,
    policy: other.state.rules.policy,
    /** Did deciding the record once more give the same result, event by event? */
    reproduced: { events: record.reproduced, isExact: difference === undefined, ...(difference && { difference }) },
    /** Commits in which the alternative history has the same events as the record. */
    same,
    record: { ...figuresOf(record.checker) },
    other: {
      ...figuresOf(otherChecker),
      // Refusals stay refusals, and are in both.
      refused: summed(otherChecker.model.tally.refused, other.refused),
      waited: { ...other.waited, stillWaiting: other.waitingNow },
      usesNotMade: other.usesLost,
    },
    assumptions: assumptionsOf(record, tokens, waitMs),
  };
}

interface Tokens {
  /** Requests granted with a token. */
  requests: number;
  /** Refreshes. Each took a lease of one use. */
  begun: number;
  minted: number;
  refused: number;
}

function countTokens(tokens: Tokens, events: readonly Event[]): void {
  for (const event of events) {
    if (event.type === "LeaseGranted" && event.request.token === true) tokens.requests++;
    else if (event.type === "TokenRequested") tokens.begun++;
    else if (event.type === "TokenMinted") tokens.minted++;
    else if (event.type === "TokenRefused") tokens.refused++;
  }
}

function assumptionsOf(record: RecordedHistory, tokens: Tokens, waitMs: number): string[] {
  const { requests, begun, minted, refused: failed } = tokens;
  const refused = Object.values(record.checker.model.tally.refused).reduce((sum, count) => sum + count, 0);
  return [
    "A lease request comes when its lease was granted, because the record does not say how long it had waited.",
    waitMs > 0
      ? `A lease request that cannot be served waits up to ${waitMs / 1000} s, first come, first served. Its outcomes come later by the same time.`
      : "A lease request that cannot be served is refused at once, and is not retried.",
    refused > 0
      ? `The record only counts its ${refused} refusals, so they stay refused. A more generous policy would have granted more than is shown.`
      : "No request was refused in the record, so every request is known.",
    "A use has the recorded outcome, class and duration, even if another proxy is leased.",
    "A worker makes as many uses of a lease as recorded, or fewer if the lease has fewer.",
    "Proxies are added, changed and retired, and manual rests begin, as recorded.",
    ...(requests + begun + minted + failed === 0
      ? []
      : [
          `Tokens are not decided again. The ${requests} requests that got one are served without a token and do not wait for it. If each proxy has its own token, they get the same proxy if possible. The ${begun} refreshes of the record (${minted} minted, ${failed} failed) take a lease of one use at the recorded moments. The jitter of a rest may differ if it began in the same commit.`,
        ]),
    "A random draw has the recorded result if the strategy is the same and that proxy is available. Otherwise it is drawn again.",
  ];
}

function summed(a: Record<string, number>, b: typeof a): typeof a {
  const sums = { ...a };
  for (const [word, count] of Object.entries(b)) sums[word] = (sums[word] ?? 0) + count;
  return sums;
}

function figuresOf({ model }: Checker) {
  const { tally, findings } = model;
  const peaks = [...tally.peaks.values()].flat();
  let fullest: { exit: string; slots: number; limit: number; windowMs: number } | undefined;
  for (const { exit, slots, limit, windowMs } of peaks) {
    if (fullest === undefined || slots / limit > fullest.slots / fullest.limit)
      fullest = { exit, slots, limit, windowMs };
  }
  return {
    leases: tally.granted,
    uses: tally.usesGranted,
    usesReturned: tally.usesReturned,
    /** Made by workers beyond those granted. */
    usesBeyond: tally.overUses,
    expired: tally.closed["expired"] ?? 0,
    outcomes: tally.outcomes,
    refused: tally.refused,
    rests: tally.rests,
    /** The fullest window: its slots and its limit. */
    fullest,
    /** Windows that were full at some moment. */
    windowsFull: peaks.filter(({ slots, limit }) => slots >= limit).length,
    /** Findings that a limit of an exit was exceeded. */
    overLimit: exitRuleNames.reduce((sum, rule) => sum + (findings.byRule[rule] ?? 0), 0),
    findings: findings.count,
  };
}

function copyOf(state: PoolState): PoolState {
  // Of a whole state.
  return state.commits === 0 ? new PoolState("") : restore(structuredClone(snapshotOf(state)));
}

/**
 * All events but signatures and the archive's, which belong to one history, and tokens, which are not decided again.
 */
function pictureOf(events: readonly Event[]): string {
  const decided = events.filter(({ type }) => !ofOneHistory.has(type) && !tokenTypes.has(type));
  return JSON.stringify(
    decided.map((event) => {
      // The range begins with a policy change of its own if the alternative policy differs, or the record had tokens.
      if ("policy" in event) return { ...event, version: 0, policy: { ...event.policy, token: null } };
      if (event.type !== "LeaseGranted") return event;
      const { tokenId: _given, request, ...others } = event;
      const { token: _requested, ...asked } = request;
      return { ...others, request: asked };
    }),
  );
}
