// Sends a request of the protocol to the picker over NATS, and returns the answer. The answer is passed on as the bytes
// that came, so that fields that only a later version knows are kept.
//
// A change of leader is ridden out: a request that the last leader left unanswered is sent to the next one. Each may be
// sent twice. A lease request has its requestId, and the others state the desired result.
import { setTimeout as pause } from "node:timers/promises";
import { headers, type Msg } from "@nats-io/transport-node";
import { userHeader } from "../../protocol/over-nats.ts";
import { type Refusal, refuse, requestBytesMax, tooLarge } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import { type Verb, verbs } from "../../protocol/verbs.ts";
import { type Bus, isNoResponders, requestOn } from "../../runtime/bus.ts";
import type { Ledgers } from "./ledger.ts";
import type { Notices } from "./notices.ts";
import { type AnyReply, sendRefusal } from "./refusal.ts";

export interface Asked {
  verb: Verb;
  /** A validated pool name, because it becomes part of a subject. `pool.list` has none. */
  pool?: string;
  body?: unknown;
  /** Time for an answer, on top of `waitMs`; absent: the longest time that any verb may take. */
  answerMs?: number;
  /** How long the picker may let the request wait. */
  waitMs?: number;
}

/** `bytes`: the reply's JSON. */
export type Answer = { bytes: Buffer } | { refusal: Refusal };

/** @throws errors that `refusalOf` knows, if there is no answer. */
export type Ask = (asked: Asked) => Promise<Answer>;

/** Asks for this user. Undefined: for the sender of a request without a key. */
export type AskFor = (user: string | undefined) => Ask;

const answerMsMax = 15_000;
const leaderlessRetryMs = 1000;
/** How long a request waits for a leader, and how often it is sent meanwhile. */
const leaderlessMsMax = 2000;
const leaderlessPauseMs = 50;
/** Many requests may wait, for a minute each. Larger ones are not kept, and so not repeated to a new leader. */
const keptBytesMax = { waiting: 4096, other: 64 * 1024 };

/** @param notices absent: nothing is repeated before its time is over. */
export function askOver(bus: Bus, ledgers: Pick<Ledgers, "isOpen">, notices?: Pick<Notices, "onNewLeader">): AskFor {
  return (user) => (asked) => {
    const { verb, pool = "", body = {}, waitMs = 0, answerMs = answerMsMax } = asked;
    const text = JSON.stringify(body);
    const bytes = Buffer.byteLength(text);
    if (bytes > requestBytesMax) return Promise.resolve({ refusal: tooLarge(bytes) });
    const until = performance.now() + answerMs + waitMs;
    const line = { bus, verb, pool, user, until };
    const isKept = bytes <= (waitMs > 0 ? keptBytesMax.waiting : keptBytesMax.other);
    // A function that waits must not keep a text that is not kept here.
    return answerOf(line, { first: sendOnce(line, text), waitMs, kept: isKept ? text : undefined });
  };

  async function answerOf(
    line: Line,
    { first, waitMs, kept }: { first: ReturnType<typeof sendOnce>; waitMs: number; kept: string | undefined },
  ): Promise<Answer> {
    const { verb, pool, until } = line;
    const isForLeader = verbs[verb].by === "leader";
    const waitUntil = performance.now() + waitMs;
    let leaderlessOn: number | undefined;
    let sent = first;
    for (;;) {
      const answer = await (isForLeader ? orNewLeader(sent, pool) : sent);
      if (answer === "unanswered" && verb.startsWith("sources."))
        return { refusal: refuse("unavailable", "No sources service runs.", { retryAfterMs: leaderlessRetryMs }) };
      if (answer === "unanswered" && verb.startsWith("audit.")) {
        const message = "No audit service runs, so past states cannot be shown. Start one with `npx remuda run audit`.";
        return { refusal: refuse("unavailable", message, { retryAfterMs: 5000 }) };
      }
      if (typeof answer === "object" && !("refusal" in answer && answer.refusal.code === "unknown-pool")) return answer;
      const on = performance.now();
      if (answer !== "new leader") {
        leaderlessOn ??= on;
        // There is no answer between two leaders either. That does not mean that the pool is gone.
        if (!(await ledgers.isOpen(pool))) return { refusal: refuse("unknown-pool", notOpen(pool)) };
      }
      const isLate = on >= Math.min(until, (leaderlessOn ?? on) + leaderlessMsMax);
      if (kept === undefined || isLate || typeof answer === "object") {
        const message = `The pool ${pool} has ${answer === "new leader" ? "a new" : "no"} leader at the moment.`;
        return { refusal: refuse("unavailable", message, { retryAfterMs: leaderlessRetryMs }) };
      }
      if (answer === "unanswered") await orNewLeader(pause(leaderlessPauseMs), pool);
      sent = sendOnce(line, waitingFor(kept, waitUntil - performance.now()));
    }
  }

  /** The work goes on, and its result is not used any more, when the pool has a new leader. */
  async function orNewLeader<T>(work: Promise<T>, pool: string): Promise<T | "new leader"> {
    let off = (): void => {};
    const heard = new Promise<"new leader">((resolve) => {
      off = notices?.onNewLeader(pool, () => resolve("new leader")) ?? off;
    });
    work.catch(() => {}); // The new leader may be heard of first.
    return Promise.race([work, heard]).finally(off);
  }
}

/** A request that may wait has waited for a part of its time. */
function waitingFor(text: string, leftMs: number): string {
  const body = JSON.parse(text) as object; // It is an object as it was sent.
  if (!("waitMs" in body) || typeof body.waitMs !== "number" || body.waitMs <= 0) return text;
  return JSON.stringify({ ...body, waitMs: Math.max(0, Math.round(leftMs)) });
}

function notOpen(pool: string): string {
  return `The pool ${pool} is not open. Open it with PUT /v1/pools/${pool}.`;
}

interface Line {
  bus: Bus;
  verb: Verb;
  pool: string;
  user: string | undefined;
  /** By the monotonic clock. */
  until: number;
}

/** No async function, because that would keep the text while the request waits. */
function sendOnce({ bus, verb, pool, user, until }: Line, text: string): Promise<Answer | "unanswered"> {
  const sent = headers();
  if (user !== undefined) sent.set(userHeader, user);
  const timeoutMs = Math.max(1, Math.round(until - performance.now()));
  const options = { timeoutMs, ...(user === undefined ? {} : { headers: sent }) };
  return requestOn(bus, requestSubject(verb, pool), text, options).then(answerIn, (error: unknown) => {
    // Any picker answers the verbs about pools, so no answer there means that no picker runs.
    if (isNoResponders(error) && !verb.startsWith("pool.")) return "unanswered";
    throw error;
  });
}

function answerIn(reply: Msg): Answer {
  if (reply.headers?.has("Nats-Service-Error-Code") === true) return { refusal: reply.json<Refusal>() };
  return { bytes: Buffer.from(reply.data.buffer, reply.data.byteOffset, reply.data.byteLength) };
}

export function sendAnswer(reply: AnyReply, answer: Answer, status = 200): AnyReply {
  if ("refusal" in answer) return sendRefusal(reply, answer.refusal);
  reply.code(status);
  reply.header("content-type", "application/json; charset=utf-8");
  reply.send(answer.bytes);
  return reply;
}

/** @param Reply the protocol's reply type for the verb. */
export function replyIn<Reply>(answer: { bytes: Buffer }): Reply {
  return JSON.parse(answer.bytes.toString()) as Reply;
}
