// Ledgers as HTTP reads them: their names, whether their pools are open, and their new commits.
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { leavesOpen } from "../../events/pool.ts";
import { ledgerStream, ledgerSubject, ledgerSubjects } from "../../protocol/subjects.ts";
import type { Archive } from "../../runtime/archive/archive.ts";
import { daysLeft } from "../../runtime/archive/days-left.ts";
import type { Bus } from "../../runtime/bus.ts";
import { resultOr } from "../../runtime/fault.ts";
import { ifStream, type StoredMessage, storedMessage, streamInfo } from "../../runtime/jetstream-api.ts";
import { LastMessages } from "../../runtime/last-messages.ts";
import { StreamNews } from "../../runtime/stream-news.ts";
import { type Place, tail } from "../../runtime/tail.ts";

type Commit = Pick<StoredMessage, "seq" | "bytes">;
export type Ledgers = ReturnType<typeof ledgersOn>;

/** Of one reader at once. Readers may be many, and slow. */
const batch = { messagesMax: 64, bytesMax: 256 * 1024 };

/**
 * Before the first picker there is no stream.
 * @param buses Commits come over one connection. Everything else is asked over another one, so that no reader can delay
 * a health check.
 * @param given.archive of this machine. Its commits are read like those of the stream.
 */
export function ledgersOn(
  buses: { control: Bus; events: Bus },
  { archive, onTrouble = () => {} }: { archive?: Archive; onTrouble?: (error: unknown) => void } = {},
) {
  const { control: bus, events } = buses;
  /** The ledger's last commit. */
  const last = (pool: string): Promise<StoredMessage | undefined> =>
    ifStream(storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) }));
  const news = new StreamNews(bus, ledgerStream);
  const openness = new LastMessages({ bus, stream: ledgerStream, filter: ledgerSubjects, read: saysOpen });
  return {
    last,
    /** Pools that have a ledger, closed ones included. */
    async names(): Promise<string[]> {
      const info = await ifStream(streamInfo(bus, ledgerStream, { subjects_filter: ledgerSubjects }));
      const subjects = Object.keys(info?.state.subjects ?? {});
      return subjects.map((subject) => subject.slice(ledgerSubjects.length - 1)).sort();
    },
    /** Pools that are open according to their ledgers, whether or not they have a leader now. */
    async openNames(): Promise<string[]> {
      const sizes = await ifStream(openness.sizes());
      if (sizes === undefined) return [];
      const isOpen = await openness.of(sizes);
      return [...sizes.keys()].filter((pool) => isOpen.get(pool) !== false).sort();
    },
    /** Size of the stream that all ledgers share; undefined if there is none yet. `bytesMax` absent: no bound. */
    async size(): Promise<{ bytes: number; bytesMax?: number } | undefined> {
      const info = await ifStream(streamInfo(bus, ledgerStream));
      if (info === undefined) return undefined;
      const bytesMax = Number(info.config["max_bytes"] ?? -1);
      return { bytes: info.state.bytes, ...(bytesMax > 0 ? { bytesMax } : {}) };
    },
    /** How long the disk of the archive will last. Undefined: it is not known here. */
    async daysLeft(): Promise<number | undefined> {
      return archive && (await daysLeft(archive))?.days;
    },
    /** Is the pool open according to its ledger, whether or not it has a leader now? */
    async isOpen(pool: string): Promise<boolean> {
      const commit = await last(pool);
      return commit !== undefined && saysOpen(commit);
    },
    /** Every commit after a place, and all later ones. Ends when aborted. */
    follow(pool: string, from: Place, signal: AbortSignal): AsyncIterable<Commit> {
      const subject = ledgerSubject(pool);
      const stored = tail({ bus: events, stream: ledgerStream, subject, from, news, batch, signal, onTrouble });
      return archive?.whole(pool, stored, from.seq) ?? stored;
    },
  };
}

/** True if it cannot be read: then the pool's leader is asked, and will not answer. */
function saysOpen({ bytes }: StoredMessage): boolean {
  const commit = resultOr(() => decodeCommit(Buffer.from(bytes).toString()), undefined);
  return commit === undefined || leavesOpen(commit.events as Event[]);
}
