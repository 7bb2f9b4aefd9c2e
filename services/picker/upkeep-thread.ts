// The thread that keeps the past of one pool (see upkeep.ts). It folds the ledger from the last snapshot, stores a new
// one, and writes the commits that the stream need no longer keep to the archive, one segment per request. An absent
// piece is the end.
import { parentPort, workerData } from "node:worker_threads";
import { ledgerStream, ledgerSubject } from "../../protocol/subjects.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import type { Manifest } from "../../runtime/archive/segment.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { headOf } from "../../runtime/commit-head.ts";
import { brokerNow, storedMessage, streamInfo } from "../../runtime/jetstream-api.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { recovered } from "./fold.ts";
import { commitAlone, noteOf } from "./lone-commits.ts";
import { type Mark, Snapshots } from "./snapshots.ts";

export interface UpkeepJob {
  pool: string;
  /** With the rights of the login `ledger`. */
  natsUrl: string;
  caFile: string | undefined;
  archiveFolder: string;
  /** The bounds of the part that the stream keeps. */
  keepBytes: number;
  keepMs: number;
  /** How long the archive keeps commits. Undefined: for ever. */
  archiveKeepMs?: number | undefined;
  /** The pool is closed, so no leader notes its segments: the thread does. Its name in the ledger, and its version. */
  closed?: { leader: string; version: string } | undefined;
}

export type UpkeepPiece =
  /**
   * `stored`: base64url SHA-256 of the snapshot's bytes. `purgeTo`: the sequence of the oldest one that is kept.
   * `archivedTo`: the sequence up to which the ledger says so.
   */
  | { snapshot: Mark & { stored: string; purgeTo: number }; archivedTo: number }
  | { segment: Manifest }
  | { bad: string }
  | undefined;

/** Of a segment's lines. They are compressed to about an eighth. */
const segmentBytesMax = 64 * 1024 ** 2;
/** Smaller ones are not worth a file. */
const segmentBytesMin = 256 * 1024;
/** When the stream has more than it keeps, it is brought down to this share of it. */
const keptShare = 0.75;

const job = workerData as UpkeepJob; // As upkeep.ts passes it.
const pieces = keep();
parentPort?.on("message", () => {
  void pieces.next().then(({ value }) => parentPort?.postMessage(value));
});

async function* keep(): AsyncGenerator<NonNullable<UpkeepPiece>, undefined> {
  const { pool, natsUrl, caFile, archiveFolder } = job;
  const bus = await openBus(natsUrl, "remuda upkeep", { caFile });
  try {
    const archive = new Archive(archiveFolder);
    const ledger = new JetStreamLedger({
      ...{ bus, stream: ledgerStream, subject: ledgerSubject(pool) },
      whole: (...stored) => archive.whole(pool, ...stored),
    });
    const snapshots = new Snapshots(bus);
    const bad: string[] = [];
    const onBadSnapshot = (why: string): void => void bad.push(why);
    const { state, seq, hash } = await recovered({ pool, ledger, snapshots, onBadSnapshot, clock: systemClock });
    for (const why of bad) yield { bad: why };
    // The pool may have been opened meanwhile.
    if (seq === 0 || (job.closed !== undefined && state.opened)) return undefined;
    const mark = { n: state.commits, seq, hash };
    // A snapshot of this very commit may be one of the bad ones.
    const present = bad.length === 0 ? await snapshots.hashOf(pool, mark) : undefined;
    const stored = present ?? (await snapshots.save(pool, mark, state));
    // After a power cut the newest one may be gone, because JetStream's object store is not flushed for each chunk.
    const kept = (await snapshots.of(pool)).filter(({ n }) => n <= mark.n);
    const purgeTo = Math.min(mark.seq, ...kept.map(({ seq: end }) => end));
    yield { snapshot: { ...mark, stored, purgeTo }, archivedTo: state.archived.sequence };
    if (state.archived.n === 0) await archive.setAside(pool, await ofOthers(bus, archive.segments(pool)));
    const { archiveKeepMs } = job;
    if (archiveKeepMs !== undefined) {
      const storedBefore = (await brokerNow(bus, ledgerStream)) - archiveKeepMs;
      for (const each of archive.pools()) await archive.removeOlder(each, storedBefore);
    }
    let last: Pick<Mark, "seq" | "hash"> = mark;
    for (let after = state.archived; ; ) {
      // Its own event must not name the last commit.
      const lastSeq = Math.min(mark.seq - (job.closed === undefined ? 0 : 1), await notKept(bus, after, mark.n));
      const bounds = { pool, lastSeq, bytesMax: segmentBytesMax };
      const next = lastSeq > after.sequence ? ledger.read(after.sequence, after.n) : undefined;
      const segment = next && (await archive.add(next, bounds));
      if (segment === undefined) return undefined;
      if (job.closed !== undefined)
        last = await commitAlone(state, { ...job.closed, ledger, last }, noteOf(segment, stored));
      yield { segment };
      after = segment.last;
    }
  } finally {
    await bus.close();
  }
}

/**
 * Those of an earlier ledger of the pool. None is known if the ledger's first commit is gone by now: another picker
 * leads the pool, and has archived it.
 */
async function ofOthers(bus: Bus, segments: readonly Manifest[]): Promise<Manifest[]> {
  const found: Manifest[] = [];
  for (const segment of segments) {
    const last = await storedMessage(bus, ledgerStream, { seq: segment.last.sequence });
    if (last === undefined || hashOf(last.bytes) !== segment.head) found.push(segment);
  }
  const first = await storedMessage(bus, ledgerStream, { seq: 1, next_by_subj: ledgerSubject(job.pool) });
  return first !== undefined && headOf(first.bytes)?.n === 1 ? found : [];
}

/**
 * The last sequence that the stream need not keep: it has too many bytes after it, or it is too old.
 * @param after the last commit that is archived.
 * @param head number of the ledger's last commit.
 */
async function notKept(bus: Bus, after: PoolState["archived"], head: number): Promise<number> {
  const { keepBytes, keepMs, pool } = job;
  const { bytes, messages, first_seq, last_seq } = (await streamInfo(bus, ledgerStream)).state;
  // All ledgers give up the same time. Messages are taken to have the same size, and the newest ones to be without
  // gaps.
  const kept = bytes <= keepBytes ? messages : Math.ceil((messages * keepBytes * keptShare) / bytes);
  const bySize = bytes <= keepBytes ? 0 : last_seq - kept;
  const start_time = new Date((await brokerNow(bus, ledgerStream)) - keepMs).toISOString();
  const young = await storedMessage(bus, ledgerStream, { start_time, next_by_subj: ledgerSubject(pool) });
  const byAge = (young?.seq ?? last_seq + 1) - 1;
  const least = (segmentBytesMin / bytes) * messages;
  const gone = Math.max(after.sequence, first_seq - 1);
  // If there are many pools, an hour of one of them is not worth a file.
  const old = (young === undefined ? head : (headOf(young.bytes)?.n ?? 1) - 1) - after.n;
  return Math.max(bySize - gone < least ? 0 : bySize, old < least ? 0 : byAge);
}
