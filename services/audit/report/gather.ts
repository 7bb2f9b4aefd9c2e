// Gathers the contents of a report, of a bounded size for any ledger. States come from the fold, maxima from the
// independent checker.
import type { Event } from "../../../events/event.ts";
import type { ProxyStateName } from "../../../events/proxy.ts";
import { proxyStates } from "../../../events/words.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { Checker } from "../checker/checker.ts";
import { decoded, headOf, noCommit, placeOf, stateAt } from "../history.ts";
import { isAfter, isBefore, type Moment } from "../moment.ts";
import type { LedgerSource } from "../source.ts";

const pointsMax = 240;
const peaksMax = 30;
const findingsMax = 20;
const actsMax = 100;
/** Further users are counted together. */
const actorsMax = 30;

export type Counts = Record<string, number>;

/** An administrative event that a user's request led to. */
export interface Act {
  n: number;
  at: number;
  by: string;
  type: string;
  /** Absent: it is about the pool. */
  proxyId?: string | undefined;
}

/** A column of the charts. All have the same width in time. */
export interface Point {
  at: number;
  /** At its end, like the open leases. */
  states: Record<ProxyStateName, number>;
  openLeases: number;
  granted: number;
  uses: number;
  outcomes: Counts;
  rests: Counts;
  refused: Counts;
  ended: Counts;
}

export type Gathered = Awaited<ReturnType<typeof gather>>;

/** @throws Fault if the range is empty or the ledger cannot be folded. */
export async function gather(
  source: LedgerSource,
  asked: {
    from?: Moment | undefined;
    to?: Moment | undefined;
    /** Of the administrative events: only those of these users. */
    by?: readonly string[] | undefined;
    onProgress?: ((done: number) => void) | undefined;
  },
) {
  const { from, to } = asked;
  const span = await spanOf(source, from, to);
  const widthMs = Math.max(1, Math.ceil((span.to - span.from + 1) / pointsMax));
  const points: Point[] = [];
  const checker = new Checker();
  const { tally, findings } = checker.model;
  checker.silent = true;
  const acts = new Acts(asked.by);
  let first = 0;
  let begun = false;
  const { state } = await stateAt(source, to, {
    onProgress: asked.onProgress,
    onCommit(commit, before, entry) {
      const place = { at: commit.at, sequence: placeOf(entry, commit) };
      if (!begun && (from === undefined || !isBefore(from, place))) {
        begun = true;
        checker.silent = false;
        first = commit.n;
      }
      checker.check(entry);
      if (!begun) return;
      const point = pointAt(points, before, { at: commit.at, from: span.from, widthMs });
      for (const event of commit.events as Event[]) {
        count(point, event);
        acts.add(commit, event);
      }
    },
  });
  const last = points.at(-1);
  if (last !== undefined) close(last, state);
  const peaks = [...tally.peaks.values()]
    .flat()
    .sort((a, b) => b.slots / b.limit - a.slots / a.limit || b.slots - a.slots);
  return {
    pool: checker.model.pool,
    where: source.where,
    from: span.from,
    to: span.to,
    commits: { first, last: checker.n, count: tally.commits },
    events: tally.events,
    widthMs,
    points,
    peaks: {
      listed: peaks.slice(0, peaksMax),
      count: peaks.length,
      full: peaks.filter(({ slots, limit }) => slots >= limit).length,
    },
    totals: {
      granted: tally.granted,
      uses: tally.usesGranted,
      outcomes: tally.outcomes,
      rests: tally.rests,
      refused: tally.refused,
      ended: tally.closed,
    },
    acts: acts.found,
    findings: { listed: findings.listed.slice(0, findingsMax), count: findings.count },
    head: checker.hash,
  };
}

/** The last administrative events, and how many each user caused. */
class Acts {
  readonly #listed: Act[] = [];
  /** A user's name may be any text. */
  readonly #byUser = new Map<string, number>();
  readonly #users: readonly string[] | undefined;

  constructor(users: readonly string[] | undefined) {
    this.#users = users;
  }

  get found() {
    const count = [...this.#byUser.values()].reduce((sum, each) => sum + each, 0);
    return { listed: this.#listed, count, byUser: Object.fromEntries(this.#byUser) };
  }

  add({ n, at }: { n: number; at: number }, event: Event): void {
    const { by, proxyId } = event as { by?: string; proxyId?: string }; // The fields of any event.
    if (by === undefined || this.#users?.includes(by) === false) return;
    const user = this.#byUser.has(by) || this.#byUser.size < actorsMax ? by : "others";
    this.#byUser.set(user, (this.#byUser.get(user) ?? 0) + 1);
    this.#listed.push({ n, at, by, type: event.type, proxyId });
    if (this.#listed.length > actsMax) this.#listed.shift();
  }
}

/** The times of the first and the last commit of the range. */
async function spanOf(
  source: LedgerSource,
  from: Moment | undefined,
  to: Moment | undefined,
): Promise<{ from: number; to: number }> {
  let first: number | undefined;
  let last: number | undefined;
  for await (const batch of source.read()) {
    for (const entry of batch) {
      // The head of the commit is enough here.
      const head = headOf(entry.bytes) ?? decoded(source, entry);
      const place = { at: head.at, sequence: entry.seq === 0 ? head.n : entry.seq };
      if (from !== undefined && isBefore(from, place)) continue;
      if (to !== undefined && isAfter(to, place)) break;
      first ??= place.at;
      last = place.at;
    }
  }
  if (first === undefined || last === undefined) throw noCommit(source);
  return { from: first, to: last };
}

/** The point of this instant. Earlier points are closed with the state before it. */
function pointAt(points: Point[], state: PoolState, given: { at: number; from: number; widthMs: number }): Point {
  // A jump of time must not make more points. The checker reports it.
  const place = Math.min(Math.max(0, Math.floor((given.at - given.from) / given.widthMs)), pointsMax - 1);
  if (points.length <= place) {
    const open = points.at(-1);
    if (open !== undefined) close(open, state);
    while (points.length <= place) {
      const point = empty(given.from + points.length * given.widthMs);
      close(point, state);
      points.push(point);
    }
  }
  return points[place]!; // It exists now.
}

function empty(at: number): Point {
  const states = Object.fromEntries(proxyStates.map((name) => [name, 0])) as Point["states"]; // All of them.
  return { at, states, openLeases: 0, granted: 0, uses: 0, outcomes: {}, rests: {}, refused: {}, ended: {} };
}

function close(point: Point, state: PoolState): void {
  point.states = { ...state.byState };
  point.openLeases = state.leases.size;
}

function count(point: Point, event: Event): void {
  const add = (counts: Counts, word: string, by = 1): void => {
    counts[word] = (counts[word] ?? 0) + by;
  };
  switch (event.type) {
    case "LeaseGranted":
      point.granted++;
      point.uses += event.uses;
      return;
    case "UseReported":
      return add(point.outcomes, event.class);
    case "LeaseClosed":
      return add(point.ended, event.how);
    case "RestBegan":
      for (const reason of event.reasons) add(point.rests, reason);
      return;
    case "RequestsRefused":
      return add(point.refused, event.code, event.count);
    default:
      return;
  }
}
