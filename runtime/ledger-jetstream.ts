// The ledger on JetStream. One message is one commit. It is stored only if the last message on its subject is the last
// one that its writer has seen. That compare-and-set is the fence.
//
// Timeouts, 503, 10164 and lost connections all mean "unknown", not "not stored": a publish that timed out has been
// seen to land later. So the same bytes are sent again with the same expectation until one of the answers is
// conclusive.
import { headers } from "@nats-io/transport-node";
import { commitHeader } from "../events/commit.ts";
import { type Bus, requestOn } from "./bus.ts";
import { Fault } from "./fault.ts";
import { answered, answerOf, brokerNow, failureOf, isJsError, jsErrors, storedMessage } from "./jetstream-api.ts";
import { type Head, type Ledger, lookAgainMs, type Room, type StoredCommit, wentBackwards } from "./ledger.ts";
import { payloadFault } from "./payload.ts";
import { StreamRoom } from "./room.ts";
import { readUntil } from "./tail.ts";

/**
 * A commit without an answer for this long is sent again, because its server may be gone. An answer to an earlier
 * attempt counts all the same.
 */
const attemptMs = 300;
const answerMsMax = 5000;
/** Pauses after an attempt that has failed. */
const pauseMsFirst = 20;
const pauseMsMax = 300;
/** How long a ledger is read before other tasks get a turn. */
const pauseAfterMs = 10;
/** More than the headers of a commit take. */
const headerBytes = 512;

interface Given {
  bus: Bus;
  stream: string;
  subject: string;
  /** Adds the archived commits of this ledger to those of the stream after a sequence. Absent: there are none. */
  whole?:
    | ((stored: AsyncIterable<StoredCommit>, afterSeq: number, afterN?: number) => AsyncIterable<StoredCommit>)
    | undefined;
  /** Of the stream. Ledgers of one stream share it. */
  room?: StreamRoom;
  /** Called each time the result of an attempt is unknown. */
  onDoubt?: (why: string) => void;
  /** Called when the ledger could not be read, and is tried again. */
  onTrouble?: (why: string) => void;
}

type Commit = Parameters<Ledger["append"]>[0];
type Appended = Awaited<ReturnType<Ledger["append"]>>;

export class JetStreamLedger implements Ledger {
  readonly #given: Given;
  readonly #room: StreamRoom;
  #closed = false;
  /** Since when reads have ended before an acknowledged commit. */
  #behindOn: number | undefined;

  constructor(given: Given) {
    this.#given = given;
    this.#room = given.room ?? new StreamRoom(given.bus, given.stream);
  }

  get isReplicated(): boolean {
    return this.#given.bus.nc.info?.cluster !== undefined;
  }

  read(afterSeq: number, afterN?: number): AsyncIterable<StoredCommit> {
    const stored = this.#stored(afterSeq);
    return this.#given.whole?.(stored, afterSeq, afterN) ?? stored;
  }

  async *#stored(afterSeq: number): AsyncIterable<StoredCommit> {
    const head = await this.head();
    if (head.seq <= afterSeq) return;
    const from = { seq: afterSeq, at: 0 };
    let since = performance.now();
    const onTrouble = (error: unknown): void => this.#given.onTrouble?.(failureOf(error));
    const { bus, stream, subject } = this.#given;
    const reading = { bus, stream, subject, from, until: head.seq, onTrouble, what: "The ledger" };
    for await (const message of readUntil(reading)) {
      const { seq, storedAt, bytes } = message;
      yield { seq, storedAt, bytes, id: message.header(commitHeader) ?? "" };
      // Messages that have already arrived are otherwise read without a pause. Other pools' leaders would starve for
      // seconds.
      if (performance.now() - since < pauseAfterMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
  }

  async head(): Promise<Head> {
    const { bus, stream, subject } = this.#given;
    const last = await answered(storedMessage(bus, stream, { last_by_subj: subject }));
    return last === undefined ? { seq: 0, id: "" } : { seq: last.seq, id: last.header(commitHeader) ?? "" };
  }

  async append(commit: Commit): Promise<Appended> {
    const concluded = this.#room.sending(commit.bytes.length);
    let seq: number | undefined;
    try {
      const appended = await this.#append(commit);
      if (appended !== "fenced") seq = appended.seq;
      return appended;
    } finally {
      concluded(seq);
    }
  }

  async #append(commit: Commit): Promise<Appended> {
    const { bus, onDoubt } = this.#given;
    const { promise: conclusion, resolve, reject } = Promise.withResolvers<Appended>();
    conclusion.catch(() => {}); // An attempt may fail after another one has succeeded.
    for (let pauseMs = pauseMsFirst; ; pauseMs = Math.min(pauseMs * 2, pauseMsMax)) {
      if (this.#closed) throw new Fault("step-down", "The ledger was closed with a commit in flight.");
      if (!bus.up) await bus.whenUp().catch((cause) => Promise.reject(closedBus(cause)));
      let timer: NodeJS.Timeout | undefined;
      const unanswered = new Promise<undefined>((again) => {
        timer = setTimeout(() => {
          onDoubt?.(`no answer within ${attemptMs} ms`);
          again(undefined);
        }, attemptMs);
        this.#attempt(commit).then((appended) => {
          if (appended !== undefined) return resolve(appended);
          clearTimeout(timer);
          timer = setTimeout(again, pauseMs, undefined);
        }, reject);
      });
      const appended = await Promise.race([conclusion, unanswered]).finally(() => clearTimeout(timer));
      if (appended !== undefined) return appended;
    }
  }

  async now(): Promise<number> {
    return brokerNow(this.#given.bus, this.#given.stream);
  }

  room(): Room {
    return this.#room.room;
  }

  async measure(): Promise<void> {
    return this.#room.measure();
  }

  /** Ends an append that has no result yet. */
  close(): void {
    this.#closed = true;
  }

  /** Undefined: the result is unknown. */
  async #attempt(commit: Commit): Promise<Appended | undefined> {
    const { bus, subject, onDoubt } = this.#given;
    const sent = headers();
    sent.set(commitHeader, commit.id);
    sent.set("Nats-Expected-Last-Subject-Sequence", String(commit.afterSeq));
    try {
      const tooLarge = payloadFault(bus, commit.bytes.length + headerBytes);
      if (tooLarge !== undefined) throw tooLarge; // Not sent. The server's bound may change with a reconnect.
      const reply = await requestOn(bus, subject, commit.bytes, { timeoutMs: answerMsMax, headers: sent });
      return { seq: answerOf<{ seq: number }>(reply.string()).seq };
    } catch (error) {
      const conclusion = isJsError(error, jsErrors.wrongLastSequence) ? await this.#readBack(commit) : undefined;
      if (conclusion !== undefined) return conclusion;
      if (bus.nc.isClosed()) throw closedBus(error);
      onDoubt?.(failureOf(error));
      return undefined;
    }
  }

  /** The broker says that another commit is last. It may be this very one, stored by an attempt without an answer. */
  async #readBack(commit: Commit): Promise<Appended | undefined> {
    let head: Head;
    try {
      head = await this.head();
    } catch {
      return undefined;
    }
    if (head.id === commit.id) return { seq: head.seq };
    if (head.seq < commit.afterSeq) {
      this.#behindOn ??= performance.now();
      if (performance.now() - this.#behindOn >= lookAgainMs) throw wentBackwards(commit.afterSeq, head.seq);
      return undefined;
    }
    this.#behindOn = undefined;
    return head.seq === commit.afterSeq ? undefined : "fenced";
  }
}

function closedBus(cause: unknown): Fault {
  return new Fault("step-down", "The connection was closed with a commit in flight.", { cause });
}
