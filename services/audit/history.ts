// The state of a pool at any past moment, folded from the nearest checkpoint before it or from the beginning. New
// checkpoints are saved on the way. A damaged ledger is not folded: the Fault names the place.
import { hash } from "node:crypto";
import { type CommitEnvelope, decodeCommit, NewerFormat } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { Reader } from "./checker/reader.ts";
import type { Checkpoints, Mark } from "./checkpoint.ts";
import { isAfter, type Moment } from "./moment.ts";
import type { Entry, LedgerSource } from "./source.ts";

/** Folding this many events takes about a second. */
const checkpointEveryEvents = 250_000;
/** After this time other work of the process may run. */
const sliceMs = 10;

export interface Past {
  state: PoolState;
  /** Of the last commit at or before the moment. */
  mark: Mark;
}

export interface Reading {
  checkpoints?: Checkpoints | undefined;
  /** Called regularly with how much of the source has been read. */
  onProgress?: ((done: number) => void) | undefined;
  /** Called with every commit before it is folded. */
  onCommit?: ((commit: CommitEnvelope, state: PoolState, entry: Entry) => void) | undefined;
  /** Ends before the first commit for which this is true. */
  until?: ((commit: CommitEnvelope) => boolean) | undefined;
  signal?: AbortSignal | undefined;
  /** The time by the clock, used if no moment is named. */
  now?: number | undefined;
  checkpointEvery?: number;
}

/** @throws Fault "stop-damaged" if the ledger cannot be folded, "fix-setup" if it has no such moment. */
export async function stateAt(source: LedgerSource, moment: Moment | undefined, reading: Reading = {}): Promise<Past> {
  const { checkpoints } = reading;
  const last = await source.last();
  if (last === undefined) throw new Fault("fix-setup", `${source.where} has no commits.`);
  if (moment !== undefined && "sequence" in moment && last.seq > 0 && moment.sequence > last.seq) {
    throw new Fault("fix-setup", `${source.where} ends at sequence ${last.seq}, before ${moment.sequence}.`);
  }
  // A caller of `onCommit` may show commits as they are; those of the reader have fields that are undefined.
  const reader = reading.onCommit === undefined ? new Reader() : undefined;
  const start = await nearest(source, checkpoints, moment);
  const folding = new Folding(start);
  let sliceEnd = performance.now() + sliceMs;
  let sinceMark = 0;
  commits: for await (const batch of source.read({ seq: start?.mark.sequence ?? 0 })) {
    for (const entry of batch) {
      const commit = reader?.read(entry.bytes) ?? decoded(source, entry);
      if (moment !== undefined && isAfter(moment, { at: commit.at, sequence: placeOf(entry, commit) })) break commits;
      if (reading.until?.(commit) === true) break commits;
      reading.onCommit?.(commit, folding.state, entry);
      folding.fold(source, entry, commit);
      sinceMark += commit.events.length;
      if (checkpoints !== undefined && sinceMark >= (reading.checkpointEvery ?? checkpointEveryEvents)) {
        checkpoints.save(folding.mark, folding.state);
        sinceMark = 0;
      }
      if (performance.now() < sliceEnd) continue;
      await new Promise((resolve) => setImmediate(resolve));
      reading.signal?.throwIfAborted();
      sliceEnd = performance.now() + sliceMs;
    }
    reading.onProgress?.(source.done);
  }
  const { state, mark } = folding;
  if (state.commits === 0) {
    throw new Fault("fix-setup", `${source.where} begins later. Give a later moment.`);
  }
  if (moment !== undefined && "sequence" in moment && last.seq === 0 && moment.sequence > mark.n)
    throw new Fault("fix-setup", `${source.where} ends with commit ${mark.n}, before ${moment.sequence}.`);
  // Time also passes after the last commit: slots run out.
  const until = moment === undefined ? (reading.now ?? 0) : "at" in moment ? moment.at : 0;
  if (until > state.at) advance(state, until);
  return { state, mark };
}

/** The sequence of a commit. A file has none, so the commit's number is used instead. */
export function placeOf(entry: Entry, { n }: CommitEnvelope): number {
  return entry.seq === 0 ? n : entry.seq;
}

class Folding {
  state: PoolState;
  mark: Mark;

  constructor(start: Past | undefined) {
    this.state = start?.state ?? new PoolState("");
    this.mark = start?.mark ?? { n: 0, sequence: 0, hash: "", at: 0 };
  }

  fold(source: LedgerSource, entry: Entry, commit: CommitEnvelope): void {
    mustFollow(source, entry, { commit, after: this.mark });
    folded(source, entry, () => {
      if (this.state.pool === "") this.state = new PoolState(nameIn(commit));
      foldCommit(this.state, commit);
    });
    this.mark = { n: commit.n, sequence: entry.seq, hash: hash("sha256", entry.bytes, "base64url"), at: commit.at };
  }
}

/** @throws Fault if the commit is not the next one: "fix-setup" if the ledger's beginning is missing. */
export function mustFollow(
  source: LedgerSource,
  entry: Entry,
  { commit, after }: { commit: CommitEnvelope; after: { n: number; hash: string } },
): void {
  if (after.n === 0 && commit.n > 1) {
    const what = `begins with commit ${commit.n}, so the state before it is unknown.`;
    const todo = entry.line > 0 ? "" : " Run this where its archive is, or set REMUDA_ARCHIVE_DIR.";
    throw new Fault("fix-setup", `${source.where} ${what} Only verify, events, export and sql can read a part.${todo}`);
  }
  if (commit.prev !== after.hash)
    throw damaged(source, entry, new Error("the commit does not follow the previous one: the hash chain is broken"));
}

/** @throws Fault "stop-damaged" if the fold throws, because no version of this program has written such a ledger. */
export function folded<T>(source: LedgerSource, entry: Entry, fold: () => T): T {
  try {
    return fold();
  } catch (cause) {
    throw damaged(source, entry, cause);
  }
}

/** The first commit of a ledger opens the pool. */
function nameIn({ events }: CommitEnvelope): string {
  for (const event of events as Event[]) if (event.type === "PoolOpened") return event.pool;
  return "";
}

/** The latest checkpoint before the moment whose commit is in the ledger, byte for byte. */
async function nearest(
  source: LedgerSource,
  checkpoints: Checkpoints | undefined,
  moment: Moment | undefined,
): Promise<Past | undefined> {
  if (checkpoints === undefined || source.entryAt === undefined) return undefined;
  for (const mark of checkpoints.marks().reverse()) {
    if (moment !== undefined && isAfter(moment, mark)) continue;
    const entry = await source.entryAt(mark.sequence);
    const isSame = entry !== undefined && hash("sha256", entry.bytes, "base64url") === mark.hash;
    const state = isSame ? checkpoints.load(mark) : undefined;
    if (state !== undefined) return { state, mark };
    checkpoints.drop(mark);
  }
  return undefined;
}

/** Number and time of a commit, without parsing all of it. Undefined if they are not at its beginning. */
export function headOf(bytes: Buffer): { n: number; at: number } | undefined {
  const text = bytes.toString("latin1", 0, 400);
  const at = /"at":(\d{1,16}),"cursor"/.exec(text)?.[1];
  const n = /"n":(\d{1,16})/.exec(text)?.[1];
  return at === undefined || n === undefined ? undefined : { n: Number(n), at: Number(at) };
}

/** @throws Fault "stop-damaged" if the bytes are not a commit. */
export function decoded(source: LedgerSource, entry: Entry): CommitEnvelope {
  try {
    return decodeCommit(entry.bytes.toString("utf8"));
  } catch (cause) {
    throw damaged(source, entry, cause);
  }
}

function damaged(source: LedgerSource, entry: Entry, cause: unknown): Fault {
  const place = entry.line > 0 ? `line ${entry.line}` : `sequence ${entry.seq}`;
  if (cause instanceof NewerFormat) {
    const what = `A newer version of Remuda wrote ${source.where}: at ${place}, ${cause.message}. Update this program.`;
    return new Fault("stop-newer", what, { cause });
  }
  const where = `${source.where} is damaged at ${place}`;
  return new Fault("stop-damaged", `${where}: ${messageOf(cause)}. See "remuda audit verify".`, { cause });
}

export function noCommit({ where }: LedgerSource): Fault {
  return new Fault("fix-setup", `${where} has no commit in that range. Give another --from or --to.`);
}
