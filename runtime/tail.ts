// Follows one subject of a stream, in order, from a place on, with direct gets and without a consumer.
//
// Any replica may answer a direct get, even one that is behind. So the end of the stored messages is only known from
// the stream's leader, and an answer without messages before it means: ask again.
//
// A place is a sequence AND a stored time. A broker that crashed may have lost its last messages and given their
// sequences to others. Then reading continues by time.
import type { Bus } from "./bus.ts";
import { directBatch, type Wanted } from "./direct-get.ts";
import { Fault } from "./fault.ts";
import { failureOf, type StoredMessage, storedMessage, streamInfo } from "./jetstream-api.ts";
import { type News, StreamNews, wentBack } from "./stream-news.ts";

export interface Place {
  seq: number;
  at: number;
}

export interface TailOptions {
  bus: Bus;
  stream: string;
  subject: string;
  /** The last message already known. seq 0: none. */
  from: Place;
  /** Ends after the message with this sequence, which the stream's leader has. Absent: never. */
  until?: number;
  /** Absent: it asks for itself. Followers of one stream share it. */
  news?: News;
  /**
   * The most that one direct get may bring, so that it fills neither the connection nor the memory. Absent: the amount
   * for a single reader.
   */
  batch?: Pick<Wanted, "messagesMax" | "bytesMax">;
  signal?: AbortSignal;
  onTrouble?: (error: unknown) => void;
}

const usualBatch = { messagesMax: 256, bytesMax: 2 * 1024 ** 2 };
const pauseMs = 200;
/** If nothing came for this long, although the broker is connected, a reading up to an end is given up. */
const unreadMsMax = 15_000;
/**
 * The replica that was asked may be gone. A silence for this long ends a try. After each silence it is twice as long.
 */
const silenceMs = { first: 500, max: 5000 };
/** After a batch that was not answered, this many messages are requested alone before the next batch. */
const aloneMax = 100;
/** Pauses while a replica is behind. */
const behindMsMin = 5;
const behindMsMax = 200;

/**
 * Ends when aborted, when `until` is reached or has been removed, or when the connection is closed. While the broker is
 * away it waits and retries. `onTrouble` gets the reason.
 */
export async function* tail(options: TailOptions): AsyncGenerator<StoredMessage> {
  const { bus, stream, until } = options;
  const news = options.news ?? new StreamNews(bus, stream);
  const isOver = (): boolean => options.signal?.aborted === true || bus.nc.isClosed();
  let place = options.from;
  let silenceMsMax = silenceMs.first;
  while (!isOver()) {
    try {
      await bus.whenUp();
      for await (const message of once({ ...options, news, silenceMsMax }, place)) {
        if (isOver()) return;
        place = { seq: message.seq, at: message.storedAt };
        silenceMsMax = silenceMs.first;
        yield message;
        if (until !== undefined && message.seq >= until) return;
      }
      if (until !== undefined) return;
    } catch (error) {
      silenceMsMax = Math.min(silenceMsMax * 2, silenceMs.max);
      if (!isOver()) options.onTrouble?.(error);
    }
    if (!isOver()) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

type Once = TailOptions & { news: News; silenceMsMax: number };

/** Until trouble, until aborted, or to the end of the stored messages if there is a bound. */
async function* once(options: Once, place: Place): AsyncGenerator<StoredMessage> {
  const { bus, stream, subject, until, news, silenceMsMax, signal, batch: bounds = usualBatch } = options;
  /** At a start by time, there may be messages that are known. */
  const isNew = (message: StoredMessage): boolean => message.seq > place.seq || message.storedAt > place.at;
  let seq = await firstAfter(options, place);
  let readTo = 0;
  /**
   * How many messages are still requested alone, from the stream's leader. Remuda's own streams allow batches, but a
   * server that reads its users again answers none for a moment.
   */
  let alone = 0;
  let behindMs = behindMsMin;
  while (signal?.aborted !== true) {
    const { mark } = news;
    // A reader with a bound knows that there is more. A follower mostly learns that there is nothing, and only the
    // stream's leader can say so.
    let hasMore = until !== undefined;
    for (;;) {
      let isBehind = false;
      if (hasMore && alone === 0) {
        const batch = await directBatch(bus, stream, { subject, seq, ...bounds, silenceMsMax });
        for (const message of batch.messages) {
          readTo = message.seq;
          seq = readTo + 1;
          if (isNew(message)) yield message;
        }
        if (batch.hasMore) continue;
        alone = batch.isUnanswered === true ? aloneMax : 0;
        isBehind = alone === 0 && batch.messages.length === 0;
      } else if (alone > 0) alone--;
      const next = await storedMessage(bus, stream, { seq, next_by_subj: subject });
      if (next === undefined) break;
      if (isBehind) await new Promise((resolve) => setTimeout(resolve, behindMs));
      behindMs = isBehind ? Math.min(behindMs * 2, behindMsMax) : behindMsMin;
      readTo = next.seq;
      seq = readTo + 1;
      hasMore = readTo !== news.lastSeq;
      if (isNew(next)) yield next;
    }
    if (until !== undefined) return;
    await news.after(mark, signal);
    if (news.lastSeq < readTo) throw wentBack(stream);
  }
}

/** The sequence at which to begin so that nothing after `place` is missed. */
async function firstAfter({ bus, stream, subject }: TailOptions, place: Place): Promise<number> {
  if (place.seq === 0) return 1;
  const { state } = await streamInfo(bus, stream);
  if (place.at === 0 || state.first_seq > place.seq) return place.seq + 1;
  const there = state.last_seq < place.seq ? undefined : await storedMessage(bus, stream, { seq: place.seq });
  const same = state.last_seq >= place.seq && (there === undefined || there.storedAt === place.at);
  if (same) return place.seq + 1;
  // A little earlier, because these times are truncated to milliseconds. The reader skips messages that it knows.
  const since = new Date(place.at - 2).toISOString();
  const next = await storedMessage(bus, stream, { start_time: since, next_by_subj: subject });
  return next?.seq ?? state.last_seq + 1;
}

/**
 * All messages up to `until`.
 * @param what what is read, for the fault. @throws Fault "retry-later" if nothing came for 15 s.
 */
export async function* readUntil({
  what,
  onTrouble,
  ...options
}: Omit<TailOptions, "signal" | "news"> & { what: string; until: number }): AsyncGenerator<StoredMessage> {
  let cameOn = performance.now();
  const givingUp = new AbortController();
  const troubled = (error: unknown): void => {
    onTrouble?.(error);
    if (performance.now() - cameOn > unreadMsMax) givingUp.abort(error);
  };
  const { signal } = givingUp;
  for await (const message of tail({ ...options, signal, onTrouble: troubled })) {
    cameOn = performance.now();
    yield message;
  }
  if (!signal.aborted) return;
  const { reason } = signal;
  throw new Fault("retry-later", `${what} cannot be read: ${failureOf(reason)}`, { cause: reason });
}
