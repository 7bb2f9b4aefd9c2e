// Explaining what a ledger says: the story of a proxy at a moment, of a lease, or of a moment, in sentences that name the numbers
// and the commits they come from. Nothing is decided again; what is told of a choice is worked out from the state before it.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import { refuse } from "../../../events/refusal.ts";
import { Fault } from "../../../runtime/fault.ts";
import { advance, evolve } from "../../../state-machines/evolve.ts";
import type { PoolState } from "../../../state-machines/state.ts";
import { viewProxy } from "../../../state-machines/view.ts";
import type { Checkpoints } from "../checkpoint.ts";
import { decoded, stateAt } from "../history.ts";
import type { Moment } from "../moment.ts";
import type { LedgerSource } from "../source.ts";
import { leaseStory } from "./lease-story.ts";
import { type Around, momentStory } from "./moment-story.ts";
import { proxyStory } from "./proxy-story.ts";
import { type Step, trailOf } from "./trail.ts";

export interface ExplainAsked {
  /** Of a proxy: when. Absent: at the end. */
  at?: Moment | undefined;
  checkpoints?: Checkpoints | undefined;
  onProgress?: ((done: number) => void) | undefined;
}

export interface Explanation {
  about: { proxyId: string } | { leaseId: string } | { moment: true };
  /** The pool's time. */
  at: number;
  /** The last commit before. */
  commit: number;
  story: string[];
  /** What it was told from. */
  facts: object;
}

export type Unknown = ReturnType<typeof refuse>;

/** @throws Fault where the ledger cannot be read; a refusal where nothing of that name is in it. */
export async function explainProxy(
  source: LedgerSource,
  id: string,
  asked: ExplainAsked,
): Promise<Explanation | Unknown> {
  const trail = await trailOf(source, id, { to: asked.at, onProgress: asked.onProgress });
  const { state } = await stateAt(source, asked.at, { checkpoints: asked.checkpoints, onProgress: asked.onProgress });
  const proxy = state.proxies.get(id);
  if (proxy === undefined)
    return refuse("unknown-proxy", `The pool had no proxy ${id} at ${new Date(state.at).toISOString()}.`);
  const story = proxyStory(state, proxy, trail);
  return {
    about: { proxyId: id },
    at: state.at,
    commit: state.commits,
    story,
    facts: { proxy: viewProxy(state, proxy) },
  };
}

export async function explainLease(
  source: LedgerSource,
  id: string,
  asked: ExplainAsked,
): Promise<Explanation | Unknown> {
  const trail = await trailOf(source, id, { to: undefined, onProgress: asked.onProgress });
  const granted = trail.before.find(
    (step): step is Step & { event: LeaseGranted } => step.event.type === "LeaseGranted",
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

export async function explainMoment(source: LedgerSource, moment: Moment, asked: ExplainAsked): Promise<Explanation> {
  const { state } = await stateAt(source, moment, { checkpoints: asked.checkpoints, onProgress: asked.onProgress });
  const around = await lookAround(source, state, asked);
  const story = momentStory(state, around);
  return { about: { moment: true }, at: state.at, commit: state.commits, story, facts: { refused: around.refused } };
}

/** The events of the commit that come before the one in question. */
function foldUpTo(state: PoolState, commit: CommitEnvelope, place: number): void {
  advance(state, commit.at);
  for (const event of commit.events.slice(0, place)) evolve(state, event as Event); // Its type is checked by the switch.
}

/** Refusals are recorded within a second. */
const aroundMs = 1000;

async function lookAround(source: LedgerSource, state: PoolState, asked: ExplainAsked): Promise<Around> {
  const around: Around = { refused: [], before: undefined, after: undefined };
  const granted = Buffer.from('"type":"LeaseGranted"');
  const refused = Buffer.from('"type":"WishesRefused"');
  let lastGranting: { bytes: Buffer } | undefined;
  for await (const batch of source.read()) {
    for (const entry of batch) {
      const isGrant = entry.bytes.includes(granted);
      if (!isGrant && !entry.bytes.includes(refused)) continue;
      const at = atOf(entry.bytes);
      if (at <= state.at && isGrant) lastGranting = entry;
      if (at <= state.at - aroundMs) continue;
      const commit = decoded(source, entry);
      for (const event of commit.events as Event[]) {
        if (event.type === "WishesRefused" && commit.at <= state.at + aroundMs)
          around.refused.push({ at: commit.at, n: commit.n, event });
        if (event.type === "LeaseGranted" && commit.at > state.at)
          around.after ??= { at: commit.at, n: commit.n, event };
      }
    }
    asked.onProgress?.(source.done);
    if (around.after !== undefined && around.after.at > state.at + aroundMs) break;
  }
  if (lastGranting !== undefined) {
    const commit = decoded(source, { seq: 0, storedAt: 0, line: 0, bytes: lastGranting.bytes });
    const event = (commit.events as Event[]).findLast((each): each is LeaseGranted => each.type === "LeaseGranted");
    if (event !== undefined) around.before = { at: commit.at, n: commit.n, event };
  }
  return around;
}

/** Of a commit's head, without reading the rest. */
function atOf(bytes: Buffer): number {
  const at = /"at":(\d{1,16}),"cursor"/.exec(bytes.toString("latin1", 0, 400))?.[1];
  if (at === undefined) throw new Fault("stop-damaged", 'a commit has no time. "remuda audit verify" says where.');
  return Number(at);
}
