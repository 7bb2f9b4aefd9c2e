// Keeps the past of the pools that are led here. A thread makes a snapshot when enough has been committed since the
// last one, and moves the commits that the stream need no longer keep to the archive. The leader notes each archived
// segment in the ledger. Only then is the stream purged below it, in steps. Commits after the oldest snapshot that is
// kept are never purged. One pool is looked after at a time.
//
// Without it a pool goes on: its ledger grows, and the next leader folds more of it.
import type { Logger } from "pino";
import { ledgerStream, ledgerSubject } from "../../protocol/subjects.ts";
import type { Manifest } from "../../runtime/archive/segment.ts";
import type { Bus } from "../../runtime/bus.ts";
import type { Clock } from "../../runtime/clock.ts";
import { messageOf } from "../../runtime/fault.ts";
import { callJs, storedMessage } from "../../runtime/jetstream-api.ts";
import { piecesOf } from "../../runtime/thread.ts";
import type { Answer } from "../../state-machines/command.ts";
import { commitWork, workOf } from "./fold.ts";
import type { Leader } from "./leader.ts";
import { noteOf } from "./lone-commits.ts";
import type { UpkeepJob, UpkeepPiece } from "./upkeep-thread.ts";
import { anybody } from "./who.ts";

export type UpkeepSettings = Omit<UpkeepJob, "pool" | "closed">;

interface UpkeepPorts {
  settings: UpkeepSettings;
  bus: Bus;
  clock: Pick<Clock, "after" | "monotonic">;
  log: Pick<Logger, "info" | "warn">;
  /** How full the ledgers' stream is, as far as is known here. */
  bytes: () => number;
  /** The pools that are led here now. */
  led: () => readonly Led[];
  /** Closed pools that this picker looks after, and how many commits each has in the stream. Absent: none. */
  closed?: () => ReadonlyMap<string, number>;
  /** This picker's name in ledgers, and its version. Absent: it looks after no closed pools. */
  own?: { leader: string; version: string };
}

/** `folded`: how much was folded before it was led (`workOf`). */
interface Led {
  pool: string;
  leader: Leader;
  folded: number;
}

/** A pool, as it was looked after last. */
interface Kept {
  work: number;
  on: number;
  hasFailed: boolean;
}

const lookMs = 5000;
/** Folding this much takes about a second. */
const workMax = 200_000;
/** A stream that has more than it keeps is looked after once it has grown by this much. */
const workMin = 1000;
/** After each job there is a pause of this many times its duration. The age of commits is checked once an hour. */
const pauseFactor = 3;
const ageLookMs = 3_600_000;
/** After a failure. A full disk may have room again, and a full ledger gets little work. */
const retryMs = 60_000;
const megabytesMax = 8192;
const noteMsMax = 10_000;
const purgeStep = 2000;
const purgePauseMs = 20;

export class Upkeep {
  readonly #ports: UpkeepPorts;
  readonly #kept = new Map<string, Kept>();
  readonly #stopping = new AbortController();
  #cancel = (): void => {};
  /** Of the last job, if the stream did not need it. */
  #tookMs = 0;

  constructor(ports: UpkeepPorts) {
    this.#ports = ports;
  }

  start(): void {
    this.#cancel = this.#ports.clock.after(lookMs + this.#tookMs * pauseFactor, () => void this.#look());
  }

  stop(): void {
    this.#stopping.abort();
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { led, clock, log } = this.#ports;
    const started = clock.monotonic();
    const pools = led();
    const closed = this.#ports.closed?.() ?? new Map<string, number>();
    for (const pool of this.#kept.keys())
      if (!closed.has(pool) && !pools.some((each) => each.pool === pool)) this.#kept.delete(pool);
    const due = pools.filter((each) => this.#isDue(each)).sort((a, b) => this.#onOf(a.pool) - this.#onOf(b.pool))[0];
    const next = due ?? this.#dueAmong(closed);
    let archived = 0;
    if (next !== undefined) {
      let hasFailed = false;
      try {
        archived = await this.lookAfter(next);
      } catch (error) {
        hasFailed = true;
        if (!this.#stopping.signal.aborted)
          log.warn({ pool: next.pool, why: messageOf(error) }, "the pool's past could not be kept; trying again");
      }
      this.#note(next, { hasFailed });
    }
    // A stream that fills faster than it is looked after must not wait.
    this.#tookMs = archived > 0 ? 0 : clock.monotonic() - started;
    if (!this.#stopping.signal.aborted) this.start();
  }

  /**
   * Makes a snapshot of the pool, and archives the commits that the stream need not keep. Returns the number of
   * segments. Without a leader the pool is closed.
   * @throws if it fails. Nothing is lost then.
   */
  async lookAfter({ pool, leader }: { pool: string; leader?: Leader }): Promise<number> {
    const { settings, log, clock, own } = this.#ports;
    if (leader === undefined && own === undefined) throw new Error("no picker could note what is archived");
    const begunOn = clock.monotonic();
    const job: UpkeepJob = { pool, ...settings, closed: leader === undefined ? own : undefined };
    const script = new URL("./upkeep-thread.ts", import.meta.url);
    const stopping = this.#stopping.signal;
    let snapshot = { purgeTo: 0, stored: "" };
    let archived = 0;
    for await (const piece of piecesOf<UpkeepPiece>({ script, input: job, megabytesMax, stopping })) {
      if (piece === undefined) break;
      if ("bad" in piece) log.warn({ pool }, piece.bad);
      else if ("snapshot" in piece) {
        snapshot = piece.snapshot;
        log.info(
          { pool, commit: piece.snapshot.n, ms: Math.round(clock.monotonic() - begunOn) },
          "a snapshot is stored",
        );
        // An earlier job may have ended before its purge.
        await this.#purge(pool, Math.min(piece.archivedTo + 1, snapshot.purgeTo));
      } else {
        const isNoted = leader === undefined || (await this.#noted(leader, piece.segment, snapshot.stored));
        if (!isNoted && leader?.leads) throw new Error("its leader did not note the archived commits");
        if (!isNoted) break;
        archived++;
        const { first, last, fileBytes } = piece.segment;
        log.info({ pool, first: first.n, last: last.n, fileBytes }, "commits are archived");
        await this.#purge(pool, Math.min(piece.segment.last.sequence + 1, snapshot.purgeTo));
      }
    }
    return archived;
  }

  /** Whether the ledger says now that the segment is archived. Not if the leader is gone, or another came first. */
  async #noted(leader: Leader, manifest: Manifest, snapshot: string): Promise<boolean> {
    const { promise: isNoted, resolve } = Promise.withResolvers<boolean>();
    const cancel = this.#ports.clock.after(noteMsMax, () => resolve(false)); // A leader that has ended never answers.
    leader.submit(noteOf(manifest, snapshot), {
      arrivedAt: leader.now(),
      who: anybody,
      reply: (answer: Answer) => ({ isNoted: "accepted" in answer && answer.accepted }),
      respond: (answer) => resolve("isNoted" in answer && answer.isNoted === true),
    });
    return isNoted.finally(cancel);
  }

  /** Removes the messages before a sequence, in steps. Removing all of them in one go would hold up commits. */
  async #purge(pool: string, before: number): Promise<void> {
    const { bus, clock } = this.#ports;
    const subject = ledgerSubject(pool);
    for (;;) {
      const first = await storedMessage(bus, ledgerStream, { seq: 1, next_by_subj: subject });
      if (first === undefined || first.seq >= before || this.#stopping.signal.aborted) return;
      const seq = Math.min(before, first.seq + purgeStep);
      await callJs(bus, `STREAM.PURGE.${ledgerStream}`, { filter: subject, seq });
      await new Promise<void>((resolve) => void clock.after(purgePauseMs, resolve));
    }
  }

  #isDue(led: Led): boolean {
    const { bytes, settings, clock } = this.#ports;
    const kept = this.#kept.get(led.pool) ?? { work: 0, on: 0, hasFailed: false };
    if (kept.hasFailed) return clock.monotonic() - kept.on >= retryMs;
    const work = workBy(led) - kept.work;
    if (work >= workMax || (work >= workMin && bytes() > settings.keepBytes)) return true;
    return work > 0 && clock.monotonic() - kept.on >= ageLookMs;
  }

  /** A closed pool gets no commits, so one look is enough until much of the stream is too old for it. */
  #dueAmong(closed: ReadonlyMap<string, number>): { pool: string } | undefined {
    const { bytes, settings, clock } = this.#ports;
    if (bytes() <= settings.keepBytes) return undefined;
    const isDue = ([pool, commits]: [string, number]): boolean =>
      commits * commitWork >= workMin && clock.monotonic() - this.#onOf(pool) >= ageLookMs;
    const found = [...closed].find(isDue);
    return found && { pool: found[0] };
  }

  #note(led: Led | { pool: string }, { hasFailed }: Pick<Kept, "hasFailed">): void {
    const work = "leader" in led ? workBy(led) : 0;
    this.#kept.set(led.pool, { work, on: this.#ports.clock.monotonic(), hasFailed });
  }

  #onOf(pool: string): number {
    return this.#kept.get(pool)?.on ?? Number.NEGATIVE_INFINITY;
  }
}

/** Until now, since the snapshot from which it was folded. */
function workBy({ leader, folded }: Led): number {
  const { counts, sum: events } = leader.metrics.eventsPerCommit.view();
  return folded + workOf({ events, commits: counts.reduce((all, count) => all + count, 0) });
}
