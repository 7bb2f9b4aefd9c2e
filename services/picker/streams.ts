// The reads that a picker makes of its streams, and the outcomes feed.
import { type Cursor, decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { leavesOpen } from "../../events/pool.ts";
import {
  ledgerStream,
  ledgerSubject,
  ledgerSubjects,
  outcomeSubject,
  outcomesStream,
} from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { resultOr } from "../../runtime/fault.ts";
import { type StoredMessage, storedMessage } from "../../runtime/jetstream-api.ts";
import { LastMessages } from "../../runtime/last-messages.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { type News, StreamNews } from "../../runtime/stream-news.ts";
import { tail } from "../../runtime/tail.ts";
import type { OutcomeFeed } from "./outcomes.ts";

/** Whether each pool is open according to its ledger. */
export function opennessIn(bus: Bus): LastMessages<boolean> {
  return new LastMessages({ bus, stream: ledgerStream, filter: ledgerSubjects, read: saysOpen });
}

/** Sequence of the last message of the pool's ledger, in the stream. */
export async function lastSequence(bus: Bus, pool: string): Promise<number | undefined> {
  return (await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) }))?.seq;
}

/** Is the pool open according to its ledger, whether or not it has a leader now? */
export async function isOpen(bus: Bus, pool: string): Promise<boolean> {
  const last = await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) });
  return last !== undefined && saysOpen(last);
}

/** True if it cannot be read: whether the pool can be led is found out by reading the whole ledger. */
function saysOpen({ bytes }: StoredMessage): boolean {
  const commit = resultOr(() => decodeCommit(Buffer.from(bytes).toString()), undefined);
  return commit === undefined || leavesOpen(commit.events as Event[]);
}

/** When the first outcome after a place was stored; undefined if there is none yet. */
export async function outcomeStoredAfter(bus: Bus, pool: string, { seq }: Cursor): Promise<number | undefined> {
  const which = { seq: seq + 1, next_by_subj: outcomeSubject(pool) };
  return (await storedMessage(bus, outcomesStream, which))?.storedAt;
}

/** How long an outcome may go unnoticed while the pool has leases. */
const unnoticedMs = { min: 3, max: 25 };
/** An outcome may be late. So a pool is busy for a while after its last lease. */
const busyMs = 30_000;

/** For the feeds of all pools that a picker leads. */
export function outcomesNews(bus: Bus): StreamNews {
  return new StreamNews(bus, outcomesStream, unnoticedMs);
}

/** @param hasLeases While the pool has none, outcomes are looked for less often. */
export function outcomeFeed(
  bus: Bus,
  pool: string,
  given: { news: StreamNews; hasLeases: () => boolean; onTrouble: (error: unknown) => void },
): OutcomeFeed {
  const { news: shared, hasLeases, onTrouble } = given;
  const stopping = new AbortController();
  const { signal } = stopping;
  const stream = outcomesStream;
  const subject = outcomeSubject(pool);
  let busyUntil = 0;
  const isBusy = (): boolean => {
    const now = performance.now();
    if (hasLeases()) busyUntil = now + busyMs;
    return now < busyUntil;
  };
  const news: News = {
    get mark() {
      return shared.mark;
    },
    get lastSeq() {
      return shared.lastSeq;
    },
    after: (mark, until) => shared.after(mark, until, isBusy),
  };
  return {
    follow(from, deliver) {
      const restarts = new Restarts(systemClock);
      let place = from;
      const followOn = async (): Promise<void> => {
        for await (const message of tail({ bus, stream, subject, from: place, news, signal, onTrouble })) {
          place = { seq: message.seq, at: message.storedAt };
          await deliver(message);
        }
      };
      const keepOn = (): Promise<void> =>
        followOn().catch((bug: unknown) => {
          onTrouble(bug);
          systemClock.after(restarts.pauseMs(), () => void keepOn());
        });
      void keepOn();
    },
    async last() {
      const last = await storedMessage(bus, stream, { last_by_subj: subject });
      return last === undefined ? undefined : { seq: last.seq, storedAt: last.storedAt };
    },
    stop: () => stopping.abort(),
  };
}
