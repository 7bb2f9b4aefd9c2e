// A ledger on JetStream, read with only an auditor's rights: the name of the stream of a subject, its info, and its
// messages.
import { ledgerStream, ledgerSubject } from "../../protocol/subjects.ts";
import type { Archive } from "../../runtime/archive/archive.ts";
import { type Bus, type BusOptions, openBus } from "../../runtime/bus.ts";
import { headOf } from "../../runtime/commit-head.ts";
import { Fault } from "../../runtime/fault.ts";
import { type StoredMessage, storedMessage, streamOf } from "../../runtime/jetstream-api.ts";
import { tail } from "../../runtime/tail.ts";
import type { Entry, LedgerSource } from "./source.ts";

/** The largest batch of messages. Batches save promises. */
const batchMax = 256;

/** The pool was never opened. */
export class NoLedger extends Fault {
  constructor(pool: string, subject: string) {
    super("fix-setup", `the pool ${pool} has no ledger here (subject ${subject}). Check the pool's name.`);
  }
}

/** @throws Fault "fix-setup" if the pool has no ledger, "retry-later" if there is no answer. */
export async function openStreamSource(
  url: string,
  pool: string,
  { archive, ...options }: BusOptions & { archive?: Archive } = {},
): Promise<LedgerSource> {
  const bus = await openBus(url, "remuda audit", options);
  try {
    return await streamSourceOn(bus, pool, { archive, close: () => bus.close() });
  } catch (error) {
    await bus.close();
    throw error;
  }
}

/**
 * On a connection that the caller owns.
 * @param given.archive of this machine. The commits that are in it alone are read like those of the stream.
 */
export async function streamSourceOn(
  bus: Bus,
  pool: string,
  { archive, close = async () => {} }: { archive?: Archive | undefined; close?: () => Promise<void> } = {},
): Promise<LedgerSource> {
  const subject = ledgerSubject(pool);
  const stream = await streamOf(bus, subject);
  const newest = async (): Promise<Entry | undefined> => {
    const message = stream === undefined ? undefined : await storedMessage(bus, stream, { last_by_subj: subject });
    return message === undefined ? undefined : entryOf(message);
  };
  if (stream === undefined || (await newest()) === undefined) {
    throw new NoLedger(pool, subject);
  }
  const whole = (stored: AsyncIterable<Stored>, afterSeq: number): AsyncIterable<Stored> =>
    archive?.whole(pool, stored, afterSeq) ?? stored;
  let done = 0;
  const note = (batch: readonly Entry[]): readonly Entry[] => {
    done = batch.at(-1)?.seq ?? done;
    return batch;
  };
  return {
    where: `${stream === ledgerStream ? "" : `stream ${stream}, `}pool ${pool}`,
    pool,
    get done() {
      return done;
    },
    size: async () => (await newest())?.seq ?? 0,
    last: newest,
    async firstNumber() {
      const first = await storedMessage(bus, stream, { seq: 1, next_by_subj: subject });
      if (first === undefined) return 1;
      for await (const { bytes } of archive?.before(pool, first, 0) ?? []) return headOf(bytes)?.n ?? 1;
      return headOf(first.bytes)?.n ?? 1;
    },
    async entryAt(seq) {
      const message = await storedMessage(bus, stream, { seq });
      if (message !== undefined) return message.subject === subject ? entryOf(message) : undefined;
      // Only the segments that lead to this ledger: a deleted one of the pool may be in the archive, too.
      const first = await storedMessage(bus, stream, { seq: 1, next_by_subj: subject });
      if (first === undefined || first.seq < seq) return undefined;
      for await (const commit of archive?.before(pool, first, seq - 1) ?? [])
        return commit.seq === seq ? entryOf(commit) : undefined;
      return undefined;
    },
    async *read(after = { seq: 0 }) {
      const until = (await newest())?.seq ?? 0;
      if (until <= after.seq) return;
      const from = { seq: after.seq, at: 0 };
      let batch: Entry[] = [];
      const stored: AsyncIterable<Stored> = tail({ bus, stream, subject, from, until });
      for await (const commit of whole(stored, after.seq)) {
        batch.push(entryOf(commit));
        if (batch.length < batchMax && commit.seq < until) continue;
        yield note(batch);
        batch = [];
      }
      if (batch.length > 0) yield note(batch);
      // The reading ends early only if the connection was lost.
      if (done < until)
        throw new Fault("retry-later", "The connection to NATS ended before the ledger was read. Retry.");
    },
    async *follow(after, signal) {
      const stored: AsyncIterable<Stored> = tail({ bus, stream, subject, from: { seq: after.seq, at: 0 }, signal });
      for await (const commit of whole(stored, after.seq)) yield note([entryOf(commit)]);
    },
    close,
  };
}

type Stored = Pick<StoredMessage, "seq" | "storedAt" | "bytes">;

function entryOf({ seq, storedAt, bytes }: Stored): Entry {
  return { seq, storedAt, line: 0, bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}
