// Asking the picker: a request of the protocol, over NATS, and its answer. An answer is passed on as the bytes that came,
// so that nothing is lost that only a later version knows.
import { type Refusal, refuse, requestBytesMax, tooLarge } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Verb } from "../../protocol/verbs.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import type { Ledgers } from "./ledger.ts";
import { type AnyReply, isNoResponders, sendRefusal } from "./refusal.ts";

export interface Asked {
  verb: Verb;
  /** A pool's name, judged: it becomes part of a subject. Of `pool.list`: none. */
  pool?: string;
  body?: unknown;
  /** For an answer, on top of `waitMs`; absent: as long as anything may take. */
  answerMs?: number;
  /** How long the picker may let it wait. */
  waitMs?: number;
}

/** `bytes`: the reply's JSON. */
export type Answer = { bytes: Buffer } | { refusal: Refusal };

/** @throws what `refusalOf` knows, when there is no answer. */
export type Ask = (asked: Asked) => Promise<Answer>;

const answerMsMax = 15_000;
const leaderlessRetryMs = 1000;

export function askOver(bus: Bus, ledgers: Ledgers): Ask {
  return async (asked) => {
    const { pool = "" } = asked;
    const answer = await askOnce(bus, asked);
    if (answer === "nobody" && asked.verb.startsWith("sources."))
      return { refusal: refuse("unavailable", "No sources service runs.", { retryAfterMs: leaderlessRetryMs }) };
    if (answer !== "nobody" && !("refusal" in answer && answer.refusal.code === "unknown-pool")) return answer;
    if (answer === "nobody" && asked.verb.startsWith("audit.")) {
      const message = "No audit runs here, so the past cannot be told. Start one with `npx remuda run audit`.";
      return { refusal: refuse("unavailable", message, { retryAfterMs: 5000 }) };
    }
    // Between two leaders nobody answers for a pool either, and that is no reason to give it up.
    if (!(await ledgers.isOpen(pool)))
      return { refusal: refuse("unknown-pool", `The pool ${pool} is not open. Open it with PUT /v1/pools/${pool}.`) };
    const message = `The pool ${pool} has no leader at the moment.`;
    return { refusal: refuse("unavailable", message, { retryAfterMs: leaderlessRetryMs }) };
  };
}

async function askOnce(
  bus: Bus,
  { verb, pool = "", body = {}, waitMs = 0, answerMs = answerMsMax }: Asked,
): Promise<Answer | "nobody"> {
  const text = JSON.stringify(body);
  const bytes = Buffer.byteLength(text);
  if (bytes > requestBytesMax) return { refusal: tooLarge(bytes) };
  try {
    const reply = await requestOn(bus, requestSubject(verb, pool), text, { timeoutMs: answerMs + waitMs });
    if (reply.headers?.has("Nats-Service-Error-Code") === true) return { refusal: reply.json<Refusal>() };
    return { bytes: Buffer.from(reply.data.buffer, reply.data.byteOffset, reply.data.byteLength) };
  } catch (error) {
    // The verbs about pools are answered by any picker: there, silence means that none runs.
    if (isNoResponders(error) && !verb.startsWith("pool.")) return "nobody";
    throw error;
  }
}

export function sendAnswer(reply: AnyReply, answer: Answer, status = 200): AnyReply {
  if ("refusal" in answer) return sendRefusal(reply, answer.refusal);
  reply.code(status);
  reply.header("content-type", "application/json; charset=utf-8");
  reply.send(answer.bytes);
  return reply;
}

/** @param Reply what the protocol says of the verb that was asked. */
export function replyIn<Reply>(answer: { bytes: Buffer }): Reply {
  return JSON.parse(answer.bytes.toString()) as Reply;
}
