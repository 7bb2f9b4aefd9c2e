// Follows one subject of a stream, in order, from a place on; supervised, because the library's ordered consumer stalls
// when the server that hosts it goes away: at the first missed heartbeat it is made anew from the last message seen.
//
// A place is a sequence AND a stored time. A broker that crashed may have lost its last messages and give their
// sequences to others: then the reading goes on by time.
import { type ConsumerMessages, DeliverPolicy, type JsMsg, jetstream } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";
import { type StoredMessage, storedMessage, streamInfo } from "./jetstream-api.ts";

export interface Place {
  seq: number;
  at: number;
}

export interface TailOptions {
  bus: Bus;
  stream: string;
  subject: string;
  /** The last message already known; seq 0: none. */
  from: Place;
  /** Ends after the message with this sequence. Absent: never. */
  until?: number;
  signal?: AbortSignal;
  onTrouble?: (error: unknown) => void;
}

/** Asked for at once where what is stored is read to its end: of a ledger's commits some megabytes. */
const readAtOnce = 32;
const followedAtOnce = 1000;
const heartbeatMs = 500;
const pauseMs = 200;

/**
 * Ends when aborted, when `until` is reached, or when the connection is closed. While the broker is away it waits and
 * tries again; `onTrouble` is told why.
 */
export async function* tail(options: TailOptions): AsyncGenerator<StoredMessage> {
  const { bus, until } = options;
  const isOver = (): boolean => options.signal?.aborted === true || bus.nc.isClosed();
  let place = options.from;
  while (!isOver()) {
    try {
      await bus.whenUp();
      for await (const message of once(options, place)) {
        place = { seq: message.seq, at: message.storedAt };
        yield message;
        if (until !== undefined && message.seq >= until) return;
      }
    } catch (error) {
      if (!isOver()) options.onTrouble?.(error);
    }
    if (!isOver()) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function* once(options: TailOptions, place: Place): AsyncGenerator<StoredMessage> {
  const { bus, stream, subject, until } = options;
  const start = await startAfter(bus, stream, place);
  const consumer = await jetstream(bus.nc).consumers.get(stream, { filter_subjects: subject, ...start });
  const within = { expires: 4 * heartbeatMs, idle_heartbeat: heartbeatMs };
  try {
    if (until === undefined) {
      yield* newer(options, place, await consumer.consume({ max_messages: followedAtOnce, ...within }));
      return;
    }
    // The library asks for more as soon as it has some, be it taken or not. A ledger that comes faster than it is folded
    // would fill the memory, and the connection, until its answers to others are late or the server cuts it off.
    let isCut = false;
    while (!isCut) {
      const part = await consumer.fetch({ max_messages: readAtOnce, ...within });
      isCut = yield* newer(options, place, part);
    }
  } finally {
    // Left to itself it would stay with the server for minutes.
    consumer.delete().catch(() => {});
  }
}

/** Those after `place`. Returns whether they were cut off. */
async function* newer(
  { bus, signal }: TailOptions,
  place: Place,
  messages: ConsumerMessages,
): AsyncGenerator<StoredMessage, boolean> {
  let isCut = false;
  const stop = (): void => {
    isCut = true;
    void messages.close();
  };
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  void (async () => {
    for await (const status of messages.status()) if (status.type === "heartbeats_missed") stop();
  })();
  const down = bus.whenDown();
  down.promise.catch(stop);
  try {
    for await (const message of messages) {
      const stored = fromConsumer(message);
      if (stored.seq <= place.seq && stored.storedAt <= place.at) continue;
      yield stored;
    }
  } finally {
    down.cancel();
    signal?.removeEventListener("abort", stop);
    await messages.close();
  }
  return isCut;
}

/** Where to begin so that nothing after `place` is missed. */
async function startAfter(
  bus: Bus,
  stream: string,
  place: Place,
): Promise<{ deliver_policy: DeliverPolicy; opt_start_seq?: number; opt_start_time?: string }> {
  if (place.seq === 0) return { deliver_policy: DeliverPolicy.All };
  const { state } = await streamInfo(bus, stream);
  const bySeq = { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: place.seq + 1 };
  if (place.at === 0 || state.first_seq > place.seq) return bySeq;
  const there = state.last_seq < place.seq ? undefined : await storedMessage(bus, stream, { seq: place.seq });
  const same = state.last_seq >= place.seq && (there === undefined || there.storedAt === place.at);
  // A little earlier: the times at hand are cut to milliseconds. What is known already is passed over by the reader.
  const since = new Date(place.at - 2).toISOString();
  return same ? bySeq : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: since };
}

function fromConsumer(message: JsMsg): StoredMessage {
  return {
    subject: message.subject,
    seq: message.seq,
    storedAt: Math.floor(message.info.timestampNanos / 1e6),
    header: (name) => message.headers?.get(name) || undefined,
    bytes: message.data,
  };
}
