// Ledgers as HTTP reads them: their names, whether their pools are open, and their new commits.
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { leavesOpen } from "../../events/pool.ts";
import { ledgerStream, ledgerSubject, ledgerSubjects } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { ifStream, type StoredMessage, storedMessage, streamInfo } from "../../runtime/jetstream-api.ts";
import { type Place, tail } from "../../runtime/tail.ts";

export interface Ledgers {
  /** Pools that have a ledger, closed ones included. */
  names(): Promise<string[]>;
  /** Size of the stream that all ledgers share; undefined if there is none yet. `bytesMax` absent: no bound. */
  size(): Promise<{ bytes: number; bytesMax?: number } | undefined>;
  /** Its last commit. */
  last(pool: string): Promise<StoredMessage | undefined>;
  /** Is the pool open according to its ledger, whether or not it has a leader now? */
  isOpen(pool: string): Promise<boolean>;
  /** Every commit after a place, and all later ones. Ends when aborted. */
  follow(pool: string, from: Place, signal: AbortSignal): AsyncIterable<StoredMessage>;
}

/** Before the first picker there is no stream. */
export function ledgersOn(bus: Bus, onTrouble: (error: unknown) => void): Ledgers {
  const last = (pool: string): Promise<StoredMessage | undefined> =>
    ifStream(storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) }));
  return {
    last,
    async names() {
      const info = await ifStream(streamInfo(bus, ledgerStream, { subjects_filter: ledgerSubjects }));
      const subjects = Object.keys(info?.state.subjects ?? {});
      return subjects.map((subject) => subject.slice(ledgerSubjects.length - 1)).sort();
    },
    async size() {
      const info = await ifStream(streamInfo(bus, ledgerStream));
      if (info === undefined) return undefined;
      const bytesMax = Number(info.config["max_bytes"] ?? -1);
      return { bytes: info.state.bytes, ...(bytesMax > 0 ? { bytesMax } : {}) };
    },
    async isOpen(pool) {
      const commit = await last(pool);
      return commit !== undefined && leavesOpen(decodeCommit(Buffer.from(commit.bytes).toString()).events as Event[]);
    },
    follow: (pool, from, signal) =>
      tail({ bus, stream: ledgerStream, subject: ledgerSubject(pool), from, signal, onTrouble }),
  };
}
