// NATS in front of a leader: subjects to requests, answers to replies. A reply goes to an inbox or nowhere.
import { headers, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import { refusalNumbers } from "../../events/refusal.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { notJson, parseJson, requestBytesMax } from "../../protocol/request.ts";
import {
  type ExecutorVerb,
  executorVerbs,
  isInbox,
  type LeaderVerb,
  leaderVerbs,
  requestSubject,
} from "../../protocol/subjects.ts";
import type { Endpoint } from "../../runtime/discovery.ts";

/** Counts by verb, for all pools together. */
export class FrontCounts {
  readonly #counts = new Map<string, { requests: number; errors: number }>();

  count(verb: string, what: "requests" | "errors"): void {
    const counted = this.#counts.get(verb) ?? { requests: 0, errors: 0 };
    counted[what]++;
    this.#counts.set(verb, counted);
  }

  endpoints(verbs: readonly string[]): Endpoint[] {
    return verbs.map((verb) => ({
      name: verb.replaceAll(".", "-"),
      subject: `remuda.${verb}.*`,
      ...(this.#counts.get(verb) ?? { requests: 0, errors: 0 }),
    }));
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

export type HandleRequest = (body: unknown, respond: (answer: object) => void) => void;

/** What every request goes through: an inbox to answer to, a size that can be read, JSON. */
export function onRequest(counts: FrontCounts, verb: string, handle: (message: Msg) => HandleRequest) {
  return (error: Error | null, message: Msg): void => {
    if (error !== null || !isInbox(message.reply)) return;
    counts.count(verb, "requests");
    const respond = (answer: object): void => {
      if (isRefusal(answer)) counts.count(verb, "errors");
      reply(message, answer);
    };
    if (message.data.length > requestBytesMax) {
      return respond(
        refuse(
          "too-large",
          `The request has ${message.data.length} bytes; at most ${requestBytesMax}: send it in parts.`,
        ),
      );
    }
    const text = textOf(message.data);
    const body = text === undefined ? { refusal: notJson() } : parseJson(text);
    if ("refusal" in body) return respond(body.refusal);
    handle(message)(body.value, respond);
  };
}

/** The subscriptions of a pool's leader. Flush before anybody is told that it leads, or requests meet nobody. */
export function serveLeader(
  nc: NatsConnection,
  counts: FrontCounts,
  given: { pool: string; handle: (verb: LeaderVerb | ExecutorVerb) => HandleRequest },
): Subscription[] {
  return [...leaderVerbs, ...executorVerbs].map((verb) =>
    nc.subscribe(requestSubject(verb, given.pool), { callback: onRequest(counts, verb, () => given.handle(verb)) }),
  );
}

/** Undefined where the bytes are not UTF-8. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

function reply(message: Msg, answer: object): void {
  const body = JSON.stringify(answer);
  try {
    if (!isRefusal(answer)) message.respond(body);
    else message.respond(body, { headers: errorHeaders(answer) });
  } catch {
    // The library throws for what is larger than the server takes. An answer that cannot be sent is no bug of the pool.
    if (!isRefusal(answer))
      reply(message, refuse("too-large", "The answer is larger than the NATS server takes: ask for less (limit)."));
  }
}

function errorHeaders(refusal: Refusal) {
  const sent = headers();
  sent.set("Nats-Service-Error-Code", String(refusalNumbers[refusal.code]));
  // A header is one line.
  sent.set("Nats-Service-Error", refusal.message.replace(/[\r\n]+/g, " "));
  return sent;
}
