// Sends a request of the protocol to the picker over NATS, and returns the answer. The answer is passed on as the bytes
// that came, so that fields that only a later version knows are kept.
import { headers, type Msg } from "@nats-io/transport-node";
import { userHeader } from "../../protocol/over-nats.ts";
import { type Refusal, refuse, requestBytesMax, tooLarge } from "../../protocol/refusal.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Verb } from "../../protocol/verbs.ts";
import { type Bus, isNoResponders, requestOn } from "../../runtime/bus.ts";
import type { Ledgers } from "./ledger.ts";
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

export function askOver(bus: Bus, ledgers: Ledgers): AskFor {
  return (user) => (asked) => answerOf(askOnce(bus, asked, user), asked.verb, asked.pool);

  async function answerOf(asking: ReturnType<typeof askOnce>, verb: Verb, pool = ""): Promise<Answer> {
    const answer = await asking;
    if (answer === "unanswered" && verb.startsWith("sources."))
      return { refusal: refuse("unavailable", "No sources service runs.", { retryAfterMs: leaderlessRetryMs }) };
    if (answer !== "unanswered" && !("refusal" in answer && answer.refusal.code === "unknown-pool")) return answer;
    if (answer === "unanswered" && verb.startsWith("audit.")) {
      const message = "No audit service runs, so past states cannot be shown. Start one with `npx remuda run audit`.";
      return { refusal: refuse("unavailable", message, { retryAfterMs: 5000 }) };
    }
    // There is no answer between two leaders either. That does not mean that the pool is gone.
    if (!(await ledgers.isOpen(pool)))
      return { refusal: refuse("unknown-pool", `The pool ${pool} is not open. Open it with PUT /v1/pools/${pool}.`) };
    const message = `The pool ${pool} has no leader at the moment.`;
    return { refusal: refuse("unavailable", message, { retryAfterMs: leaderlessRetryMs }) };
  }
}

/** No async function, because that would keep the body while the request waits, and many may wait. */
function askOnce(
  bus: Bus,
  { verb, pool = "", body = {}, waitMs = 0, answerMs = answerMsMax }: Asked,
  user: string | undefined,
): Promise<Answer | "unanswered"> {
  const text = JSON.stringify(body);
  const bytes = Buffer.byteLength(text);
  if (bytes > requestBytesMax) return Promise.resolve({ refusal: tooLarge(bytes) });
  const sent = headers();
  if (user !== undefined) sent.set(userHeader, user);
  const options = { timeoutMs: answerMs + waitMs, ...(user === undefined ? {} : { headers: sent }) };
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
