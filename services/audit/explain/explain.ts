// Explains a ledger: the story of a proxy at a moment, of a lease, or of a moment. Its sentences name the numbers and
// the commits they come from. Nothing is decided again. The reasons for a choice are computed from the state before it.

import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import type { PoolClosed } from "../../../events/pool.ts";
import { refuse } from "../../../protocol/refusal.ts";
import { Fault } from "../../../runtime/fault.ts";
import { showInstant } from "../../../runtime/text.ts";
import { advance, evolve } from "../../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { viewProxy } from "../../../state-machines/view.ts";
import type { Checkpoints } from "../checkpoint.ts";
import { decoded, headOf, stateAt } from "../history.ts";
import type { Moment } from "../moment.ts";
import type { Entry, LedgerSource } from "../source.ts";
import { leaseStory } from "./lease-story.ts";
import { type Around, momentStory } from "./moment-story.ts";
import { proxyStory } from "./proxy-story.ts";
import { type Granted, type Trail, trailOf } from "./trail.ts";

export interface ExplainAsked {
  /** For a proxy: the moment. Absent: at the end. */
  at?: Moment | undefined;
  checkpoints?: Checkpoints | undefined;
  onProgress?: ((done: number) => void) | undefined;
  /** The time by the clock, used if no moment is named. */
  now?: number | undefined;
  /** For a moment: how long it is. */
  forMs?: number | undefined;
}

export interface Explanation {
  about: { proxyId: string } | { leaseId: string } | { moment: true };
  /** The pool's time. */
  at: number;
  /** The last commit before. */
  commit: number;
  story: string[];
  /** The facts from which the story was made. */
  facts: object;
}

export type Unknown = ReturnType<typeof refuse>;

/** @throws Fault if the ledger cannot be read; a refusal if the name is not in it. */
export async function explainProxy(
  source: LedgerSource,
  id: string,
  asked: ExplainAsked,
): Promise<Explanation | Unknown> {
  const trail = await trailOf(source, id, { to: asked.at, onProgress: asked.onProgress });
  const { checkpoints, onProgress, now } = asked;
  const { state } = await stateAt(source, asked.at, { checkpoints, onProgress, now });
  const proxy = state.proxies.get(id);
  if (proxy === undefined)
    return refuse("unknown-proxy", `The pool had no proxy ${id} at ${showInstant(state.at)}.${traceOf(trail)}`);
  const story = proxyStory(state, proxy, trail);
  return {
    about: { proxyId: id },
    at: state.at,
    commit: state.commits,
    story,
    facts: { proxy: viewProxy(state, proxy) },
  };
}

/** For a proxy that is not known at the moment: when it was known. */
function traceOf({ before, after }: Trail): string {
  const gone = before.findLast(({ event }) => event.type === "ProxyRetired");
  if (gone !== undefined)
    return ` It was retired at ${showInstant(gone.at)} (commit ${gone.n}), and is now forgotten. Give an earlier moment with --at.`;
  const added = after.find(({ event }) => event.type === "ProxyAdded");
  return added === undefined ? "" : ` It was added later, at ${showInstant(added.at)} (commit ${added.n}).`;
}

export async function explainLease(
  source: LedgerSource,
  id: string,
  asked: ExplainAsked,
): Promise<Explanation | Unknown> {
  const trail = await trailOf(source, id, { to: undefined, onProgress: asked.onProgress });
  const granted = trail.before.find(
    (step): step is Granted => step.event.type === "LeaseGranted" && step.commit !== undefined,
  );
  if (granted === undefined) return refuse("unknown-lease", `No lease ${id} was granted in this ledger.`);
  const { state } = await stateAt(source, granted.sequence === 0 ? undefined : { sequence: granted.sequence - 1 }, {
    checkpoints: asked.checkpoints,
    onProgress: asked.onProgress,
    until: ({ n }) => n >= granted.n,
  });
  foldUpTo(state, granted.commit, granted.place);
  const story = leaseStory(state, granted, trail);
  return { about: { leaseId: id }, at: state.at, commit: state.commits, story, facts: { granted: granted.event } };
}

/**
 * If a moment is longer than an instant (14:03 is a minute), the story covers all of it, beginning with the first
 * refusal.
 */
export async function explainMoment(source: LedgerSource, moment: Moment, asked: ExplainAsked): Promise<Explanation> {
  const { checkpoints, onProgress, forMs } = asked;
  let { state } = await stateAt(source, moment, { checkpoints, onProgress });
  const around = await lookAround(source, state.at, asked);
  // The state that the first refused request met: the pool just before its commit, at that instant.
  const first = around.refused.find(({ event }) => event.code === "pool-exhausted");
  if (forMs !== undefined && first !== undefined && first.n > state.commits) {
    const until = ({ n }: CommitEnvelope): boolean => n >= first.n;
    ({ state } = await stateAt(source, { at: first.at }, { checkpoints, onProgress, until }));
  }
  const story = momentStory(state, around);
  return { about: { moment: true }, at: state.at, commit: state.commits, story, facts: { refused: around.refused } };
}

/** Folds the events of the commit that come before the one in question. */
function foldUpTo(state: PoolState, commit: CommitEnvelope, place: number): void {
  advance(state, commit.at);
  for (const event of commit.events.slice(0, place)) evolve(state, event as Event); // The switch checks its type.
}

/** Refusals are recorded within a second. */
const aroundMs = 1000;
/** A leader that took over this long before or after may be the reason why no request was granted. */
const claimsMs = 60_000;
const refusedMax = 10_000;

async function lookAround(source: LedgerSource, at: number, { forMs, onProgress }: ExplainAsked): Promise<Around> {
  const to = at + Math.max((forMs ?? 0) - 1, 0);
  const around: Around = {
    from: at,
    to,
    granted: 0,
    refused: [],
    before: undefined,
    after: undefined,
    claims: [],
    closed: undefined,
  };
  const [granted, refused, claimed, closed] = ["LeaseGranted", "RequestsRefused", "LeaderClaimed", "PoolClosed"].map(
    (type) => Buffer.from(`"type":"${type}"`),
  ) as [Buffer, Buffer, Buffer, Buffer]; // One for each type.
  let lastGranting: Entry | undefined;
  let before = 0;
  for await (const batch of source.read()) {
    for (const entry of batch) {
      const time = atOf(entry.bytes);
      const quietSince = before === 0 ? time : before;
      before = time;
      const isGrant = entry.bytes.includes(granted);
      if (time < at && isGrant) lastGranting = entry;
      if (time <= to && entry.bytes.includes(closed)) around.closed = closedIn(decoded(source, entry)) ?? around.closed;
      const isNear = time > at - claimsMs && time <= to + claimsMs;
      if (!isGrant && !(isNear && (entry.bytes.includes(refused) || entry.bytes.includes(claimed)))) continue;
      if (time <= at - claimsMs) continue;
      const { n, events } = decoded(source, entry);
      for (const event of events as Event[]) {
        const found = { at: time, n };
        if (event.type === "LeaderClaimed" && n > 1) around.claims.push({ ...found, event, quietSince });
        else if (event.type === "RequestsRefused" && time > at - aroundMs && time <= to + aroundMs) {
          if (around.refused.length < refusedMax) around.refused.push({ ...found, event });
        } else if (event.type === "LeaseGranted" && time >= at) {
          if (time <= to) around.granted++;
          if (time > to) around.after ??= { ...found, event };
        }
      }
    }
    onProgress?.(source.done);
    if (around.after !== undefined && around.after.at > to + claimsMs) break;
  }
  if (lastGranting !== undefined) {
    const commit = decoded(source, lastGranting);
    const event = (commit.events as Event[]).findLast((each): each is LeaseGranted => each.type === "LeaseGranted");
    if (event !== undefined) around.before = { at: commit.at, n: commit.n, event };
  }
  return around;
}

function closedIn({ at, n, events }: CommitEnvelope): Around["closed"] {
  const event = (events as Event[]).find((each): each is PoolClosed => each.type === "PoolClosed");
  return event === undefined ? undefined : { at, n, event };
}

function atOf(bytes: Buffer): number {
  const head = headOf(bytes);
  if (head === undefined) throw new Fault("stop-damaged", 'a commit has no time. See "remuda audit verify".');
  return head.at;
}
