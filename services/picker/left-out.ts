// Commands that made a turn fail because of a bug. Nothing of such a turn is stored, and the leader is discarded. The
// next leader of the pool in this process leaves them out: a request is refused, and an outcome counts as unreadable.
// So a client or a stream that repeats a command does not make the pool fail again and again.
//
// A request is left out for a while only, because another state may accept it.
import { createHash } from "node:crypto";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import type { Request } from "../../state-machines/command.ts";
import type { StoredOutcomes, Undecided } from "../../state-machines/engine.ts";
import type { LeaderEvent } from "./leader-event.ts";

interface Answerable {
  respond(answer: object): void;
}

const requestMs = 60_000;
/** Beyond this number the oldest is forgotten. If it fails again, it is left out again. */
const keptMax = 1000;

export class LeftOut {
  readonly #clock: Pick<Clock, "monotonic">;
  /** When each request was left out, by its digest. The oldest first. */
  readonly #requests = new Map<string, number>();
  readonly #outcomes = new Set<string>();

  constructor(clock: Pick<Clock, "monotonic">) {
    this.#clock = clock;
  }

  /**
   * The event that a leader sends when a turn has thrown. A command that the turn was deciding is left out from now on.
   */
  broken(
    cause: unknown,
    { pool, undecided, leads }: { pool: string; undecided: Undecided<Answerable> | undefined; leads: boolean },
  ): LeaderEvent {
    const message = `The pool ${pool} is no longer served: ${messageOf(cause)}.`;
    const broke = { type: "broke", error: new Fault("stop-damaged", message, { cause }) } as const;
    if (cause instanceof Fault) return broke;
    const leftOut = undecided && this.#leaveOut(undecided, leads);
    return { ...broke, defect: cause, ...(leftOut && { leftOut }) };
  }

  /** Returns the command's name and ids, for the log. @param isAnswered the leader may still answer. */
  #leaveOut(undecided: Undecided<Answerable>, isAnswered: boolean): object {
    if ("request" in undecided) {
      const digest = digestOf(undecided.request);
      this.#requests.delete(digest);
      this.#requests.set(digest, this.#clock.monotonic());
    } else this.#outcomes.add(placeOf(undecided.place));
    if (isAnswered && "to" in undecided) for (const to of undecided.to) to.respond(leftOut);
    for (const kept of [this.#requests, this.#outcomes]) {
      const [oldest] = kept.keys();
      if (kept.size > keptMax && oldest !== undefined) kept.delete(oldest);
    }
    return namedIn(undecided);
  }

  /** Undefined if the request is not left out. */
  refusalOf(request: Request): Refusal | undefined {
    for (const [digest, on] of this.#requests) {
      if (this.#clock.monotonic() - on < requestMs) break;
      this.#requests.delete(digest);
    }
    // A digest takes time, and each request would need one.
    return this.#requests.size > 0 && this.#requests.has(digestOf(request)) ? leftOut : undefined;
  }

  /** The outcomes of a turn without those that are left out. */
  without(messages: readonly StoredOutcomes[]): readonly StoredOutcomes[] {
    if (this.#outcomes.size === 0) return messages;
    return messages.map(({ seq, storedAt, outcomes }) => ({
      ...{ seq, storedAt },
      outcomes: outcomes.map((outcome, index) =>
        this.#outcomes.has(placeOf({ seq, storedAt, index })) ? undefined : outcome,
      ),
    }));
  }
}

/** The request must not be sent again, so the code is one that no client retries. */
const leftOut = refuse(
  "invalid-request",
  "This request failed because of a bug in Remuda, and was left out. Do not send it again: the picker's log names the bug.",
);

/** The command with its ids, without any secret. */
function namedIn(undecided: Undecided<unknown>): Record<string, string | number> {
  if ("outcome" in undecided) {
    const { leaseId, n } = undecided.outcome;
    return { command: "outcome", leaseId, ...(n !== undefined && { n }), sequence: undecided.place.seq };
  }
  const { request } = undecided;
  switch (request.type) {
    case "lease": {
      const { requestId } = request.request;
      return { command: request.type, ...(requestId !== undefined && { requestId }) };
    }
    case "each":
      return { command: `each ${request.commands[0]?.type ?? ""}`, commands: request.commands.length };
    case "renew":
    case "release":
      return { command: request.type, leaseId: request.leaseId };
    default:
      return { command: request.type };
  }
}

/** Equal for a request and its repetition. */
function digestOf(request: Request): string {
  return createHash("sha256")
    .update(JSON.stringify(repeatedIn(request)))
    .digest("base64url");
}

/** A repetition has another deadline, and another id for its lease. */
function repeatedIn(request: Request): object {
  if (request.type === "lease") return { ...request.request, user: request.user };
  return request.type === "get-token" ? { ...request, deadline: 0 } : request;
}

function placeOf({ seq, storedAt, index }: { seq: number; storedAt: number; index: number }): string {
  return `${seq} ${storedAt} ${index}`;
}
