// The ledger on JetStream. One message is one commit. It is stored only if the last message on its subject is the last
// one that its writer has seen. That compare-and-set is the fence.
//
// Timeouts, 503, 10164 and lost connections all mean "unknown", not "not stored": a publish that timed out has been
// seen to land later. So the same bytes are sent again with the same expectation until the answer is conclusive.
import { headers, RequestError } from "@nats-io/transport-node";
import { commitHeader } from "../events/commit.ts";
import { type Bus, requestOn } from "./bus.ts";
import { Fault, messageOf } from "./fault.ts";
import { answerOf, brokerNow, fillOf, isJsError, JsError, jsErrors, storedMessage } from "./jetstream-api.ts";
import { type Head, type Ledger, type StoredCommit, wentBackwards } from "./ledger.ts";
import { tail } from "./tail.ts";

/** How long one attempt may take, and the pauses between attempts. */
const attemptMs = 2000;
const pauseMsFirst = 20;
const pauseMsMax = 500;
/** How long a ledger is read before other tasks get a turn. */
const pauseAfterMs = 10;
/** If nothing can be read for this long, although the broker is connected, the reader is told. */
const unreadMsMax = 15_000;

interface Given {
  bus: Bus;
  stream: string;
  subject: string;
  /** Absent: the stream is asked each time. */
  fill?: () => Promise<number>;
  /** Called each time the result of an attempt is unknown. */
  onDoubt?: (why: string) => void;
  /** Called when the ledger could not be read, and is tried again. */
  onTrouble?: (why: string) => void;
}

export class JetStreamLedger implements Ledger {
  readonly #given: Given;
  #closed = false;

  constructor(given: Given) {
    this.#given = given;
  }

  async *read(afterSeq: number): AsyncIterable<StoredCommit> {
    const head = await this.head();
    if (head.seq <= afterSeq) return;
    const from = { seq: afterSeq, at: 0 };
    let since = performance.now();
    let unreadSince = since;
    const givingUp = new AbortController();
    const onTrouble = (error: unknown): void => {
      this.#given.onTrouble?.(describe(error));
      if (performance.now() - unreadSince > unreadMsMax) givingUp.abort(error);
    };
    const { signal } = givingUp;
    for await (const message of tail({ ...this.#given, from, until: head.seq, signal, onTrouble })) {
      const { seq, storedAt, bytes } = message;
      unreadSince = performance.now();
      yield { seq, storedAt, bytes, id: message.header(commitHeader) ?? "" };
      // Messages that have already arrived are otherwise read without a pause. Other pools' leaders would starve for
      // seconds.
      if (performance.now() - since < pauseAfterMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    if (signal.aborted)
      throw new Fault("retry-later", `The ledger cannot be read: ${describe(signal.reason)}`, { cause: signal.reason });
  }

  async head(): Promise<Head> {
    const { bus, stream, subject } = this.#given;
    const last = await storedMessage(bus, stream, { last_by_subj: subject });
    return last === undefined ? { seq: 0, id: "" } : { seq: last.seq, id: last.header(commitHeader) ?? "" };
  }

  async append(commit: { id: string; bytes: Uint8Array; afterSeq: number }): Promise<{ seq: number } | "fenced"> {
    const { bus, subject, onDoubt } = this.#given;
    const sent = headers();
    sent.set(commitHeader, commit.id);
    sent.set("Nats-Expected-Last-Subject-Sequence", String(commit.afterSeq));
    for (let pauseMs = pauseMsFirst; ; pauseMs = Math.min(pauseMs * 2, pauseMsMax)) {
      if (this.#closed) throw new Fault("step-down", "The ledger was closed with a commit in flight.");
      try {
        if (!bus.up) await bus.whenUp();
        const reply = await requestOn(bus, subject, commit.bytes, { timeoutMs: attemptMs, headers: sent });
        const ack = answerOf<{ stream: string; seq: number }>(reply.string());
        return { seq: ack.seq };
      } catch (error) {
        if (error instanceof Fault && error.code === "stop-damaged") throw error;
        if (isJsError(error, jsErrors.wrongLastSequence)) {
          const conclusion = await this.#readBack(commit);
          if (conclusion !== undefined) return conclusion;
        }
        if (bus.nc.isClosed())
          throw new Fault("step-down", "The connection was closed with a commit in flight.", { cause: error });
        onDoubt?.(describe(error));
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  async now(): Promise<number> {
    return brokerNow(this.#given.bus, this.#given.stream);
  }

  async fill(): Promise<number> {
    const { bus, stream, fill = () => fillOf(bus, stream) } = this.#given;
    return fill();
  }

  /** Ends an append that has no result yet. */
  close(): void {
    this.#closed = true;
  }

  /** The broker says that another commit is last. It may be this very one, stored by an attempt without an answer. */
  async #readBack(commit: { id: string; afterSeq: number }): Promise<{ seq: number } | "fenced" | undefined> {
    let head: Head;
    try {
      head = await this.head();
    } catch {
      return undefined;
    }
    if (head.id === commit.id) return { seq: head.seq };
    if (head.seq < commit.afterSeq) throw wentBackwards(commit.afterSeq, head.seq);
    return head.seq === commit.afterSeq ? undefined : "fenced";
  }
}

function describe(error: unknown): string {
  if (error instanceof JsError) return `JetStream error ${error.number}: ${error.message}`;
  if (error instanceof RequestError && error.isNoResponders()) return "JetStream does not answer (503)";
  return messageOf(error);
}
