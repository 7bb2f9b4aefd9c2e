// Outcomes on their way into the ledger. They have come from the stream and wait for the next turn. Their number is
// bounded: at the bound, the stream is not followed further until there is room.
import type { Cursor } from "../../events/commit.ts";
import { type Outcome, outcomeSchema, outcomesMax } from "../../protocol/outcome.ts";
import { readRequest } from "../../protocol/request.ts";
import type { StoredOutcomes } from "../../state-machines/engine.ts";

/** One message of the outcomes stream. */
export interface OutcomeMessage {
  seq: number;
  storedAt: number;
  bytes: Uint8Array;
}

/** A stream of outcomes, followed from a given place. */
export interface OutcomeFeed {
  /** Delivers every message after `from`, in order. The next one follows when the promise has resolved. */
  follow(from: Cursor, deliver: (message: OutcomeMessage) => Promise<void>): void;
  /** The last message that is stored. */
  last(): Promise<{ seq: number; storedAt: number } | undefined>;
  stop(): void;
}

const messagesMax = 2000;
const bytesMax = 16 * 1024 ** 2;
/** A turn that has this many outcomes gets no further message. */
const turnOutcomesMax = 2000;
const utf8 = new TextDecoder("utf-8", { fatal: true });

export class Outcomes {
  readonly #messages: OutcomeMessage[] = [];
  /** The first of the messages, parsed. */
  readonly #parsed: StoredOutcomes[] = [];
  #parsedCount = 0;
  #bytes = 0;
  #waitingForRoom: (() => void)[] = [];
  #ended = false;

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /** When the next outcome to ingest was stored; undefined if there is none. */
  get nextAt(): number | undefined {
    return this.#messages[0]?.storedAt;
  }

  /** Resolves when there is room for the next message. */
  offer(message: OutcomeMessage): Promise<void> {
    this.#messages.push(message);
    this.#bytes += message.bytes.length;
    if (!this.#isFull() || this.#ended) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForRoom.push(resolve));
  }

  /** For the next turn, which ingests as many as it has room for. */
  forTurn(): readonly StoredOutcomes[] {
    while (this.#parsed.length < this.#messages.length && this.#parsedCount < turnOutcomesMax) {
      const { seq, storedAt, bytes } = this.#messages[this.#parsed.length]!; // The index is below the length.
      const outcomes = outcomesIn(bytes);
      this.#parsed.push({ seq, storedAt, outcomes });
      this.#parsedCount += outcomes.length;
    }
    return this.#parsed;
  }

  /** This many messages have been ingested completely. */
  drop(ingested: number): void {
    for (const { bytes } of this.#messages.splice(0, ingested)) this.#bytes -= bytes.length;
    for (const { outcomes } of this.#parsed.splice(0, ingested)) this.#parsedCount -= outcomes.length;
    if (!this.#isFull()) this.#goOn();
  }

  /** Nothing is ingested any more, so the stream need not wait for room. */
  end(): void {
    this.#ended = true;
    this.#goOn();
  }

  #goOn(): void {
    for (const resolve of this.#waitingForRoom.splice(0)) resolve();
  }

  #isFull(): boolean {
    return this.#messages.length >= messagesMax || this.#bytes >= bytesMax;
  }
}

/** Undefined stands for an outcome that cannot be read. */
function outcomesIn(bytes: Uint8Array): (Outcome | undefined)[] {
  try {
    const body: unknown = JSON.parse(utf8.decode(bytes));
    if (!Array.isArray(body)) return [parsed(body)];
    return body.length > 0 && body.length <= outcomesMax ? body.map(parsed) : [undefined];
  } catch {
    return [undefined];
  }
}

function parsed(raw: unknown): Outcome | undefined {
  const read = readRequest(outcomeSchema, raw, { warningsMost: 0 });
  return "refusal" in read ? undefined : read.value;
}
