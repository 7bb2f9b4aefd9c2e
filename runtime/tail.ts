// Follows one subject of a stream, in order, from a place on. It is supervised, because the library's ordered consumer
// stalls when the server that hosts it goes away. At the first missed heartbeat the consumer is created again from the
// last message seen.
//
// A place is a sequence AND a stored time. A broker that crashed may have lost its last messages and given their
// sequences to others. Then reading continues by time.
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
  /** The last message already known. seq 0: none. */
  from: Place;
  /** Ends after the message with this sequence. Absent: never. */
  until?: number;
  signal?: AbortSignal;
  onTrouble?: (error: unknown) => void;
}

/** Batch size when reading to the end of the stored messages. For a ledger's commits this is some megabytes. */
const readAtOnce = 32;
const followedAtOnce = 1000;
const heartbeatMs = 500;
const pauseMs = 200;

/**
 * Ends when aborted, when `until` is reached, or when the connection is closed. While the broker is away it waits and
 * retries. `onTrouble` gets the reason.
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
    // The library requests more as soon as it has some, even if nothing was consumed. A ledger that arrives faster than
    // it is folded would fill the memory and the connection. Then answers to others would be late, or the server would
    // cut us off.
    let isCut = false;
    while (!isCut) {
      const part = await consumer.fetch({ max_messages: readAtOnce, ...within });
      isCut = yield* newer(options, place, part);
    }
  } finally {
    // Otherwise the consumer would stay on the server for minutes.
    consumer.delete().catch(() => {});
  }
}

/** The messages after `place`. Returns whether the connection cut them off. */
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
  // A little earlier, because these times are truncated to milliseconds. The reader skips messages that it knows.
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
