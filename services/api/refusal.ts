// The only place where errors become refusals: the errors of Fastify, NATS and our own code, in the terms of the
// protocol. It goes by code, never by a message's text. An error that is not in the tables is a bug: it is logged, and
// the client gets `unavailable`, since the picker behind goes on regardless.
import {
  ClosedConnectionError,
  ConnectionError,
  DrainingConnectionError,
  PermissionViolationError,
  RequestError,
  TimeoutError,
} from "@nats-io/transport-node";
import type { FastifyReply } from "fastify";
import type { Logger } from "pino";
import { refusalNumbers } from "../../events/refusal.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { isNoResponders } from "../../runtime/bus.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";
import { JsError } from "../../runtime/jetstream-api.ts";

const retryAfterMs = 1000;

/** Carries a refusal out of code that cannot return it: a parser, a validator, the inside of a route. */
export class Refused extends Error {
  readonly refusal: Refusal;
  /** Set if it differs from the code's usual status. */
  readonly status: number | undefined;

  constructor(refusal: Refusal, status?: number) {
    super(refusal.message);
    this.name = "Refused";
    this.refusal = refusal;
    this.status = status;
  }
}

export type AnyReply = Pick<FastifyReply, "raw"> & {
  code(status: number): unknown;
  header(name: string, value: string): unknown;
  send(payload: unknown): unknown;
};

const sent = new WeakMap<FastifyReply["raw"], Refusal>();

/** The refusal with which a request was answered; undefined if it was not refused. */
export function refusalSent(reply: Pick<FastifyReply, "raw">): Refusal | undefined {
  return sent.get(reply.raw);
}

/** Status and `Retry-After` (whole seconds, rounded up) follow from the refusal. */
export function sendRefusal(reply: AnyReply, refusal: Refusal, status?: number): AnyReply {
  sent.set(reply.raw, refusal);
  // A picker of a later version may use a code that is not known here.
  reply.code(status ?? (refusalNumbers[refusal.code] as number | undefined) ?? 503);
  reply.header("content-type", "application/json; charset=utf-8");
  if (refusal.retryAfterMs !== undefined) reply.header("retry-after", String(Math.ceil(refusal.retryAfterMs / 1000)));
  reply.send(JSON.stringify(refusal));
  return reply;
}

/** Errors with which Fastify and the HTTP parser refuse by themselves, by code. */
const httpErrors: Readonly<Record<string, [word: "invalid-request" | "too-large", message: string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ["too-large", "The body is too large for this route: send it in parts."],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ["invalid-request", "The body is not as long as its Content-Length says."],
  FST_ERR_BAD_URL: ["invalid-request", "The path is not valid: a % must be followed by two hex digits."],
  FST_ERR_MAX_PARAM_LENGTH: ["invalid-request", "The path has a part that is longer than any name or id."],
  ECONNRESET: ["invalid-request", "The connection ended before the whole request had arrived."],
  HPE_HEADER_OVERFLOW: ["invalid-request", "The headers are larger than 16 KB."],
  ERR_HTTP_REQUEST_TIMEOUT: ["invalid-request", "The request did not arrive in time."],
};

/** @returns the refusal, and its status if that differs from the code's usual one. */
export function refusalOf(error: unknown, log: Logger): { refusal: Refusal; status?: number | undefined } {
  if (error instanceof Refused) return { refusal: error.refusal, status: error.status };
  const known = httpErrors[codeOf(error)];
  if (known !== undefined) return { refusal: refuse(...known) };
  const away = awayOf(error);
  if (away !== undefined) return { refusal: refuse("unavailable", away, { retryAfterMs }) };
  log.error({ err: error }, "a request over HTTP failed because of a bug");
  return { refusal: refuse("unavailable", "The service has a bug. Its log shows the error.", { retryAfterMs }) };
}

/** The HTTP parser could not read the request. So there is no request object, and the answer is written manually. */
export function unreadableAnswer(error: unknown): string {
  const [word, message] = httpErrors[codeOf(error)] ?? ["invalid-request", "This is not an HTTP request."];
  const body = JSON.stringify(refuse(word, message));
  return [
    `HTTP/1.1 ${refusalNumbers[word]} Refused`,
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
    "",
    body,
  ].join("\r\n");
}

/** A sentence if the broker or the picker is away; undefined for other errors. */
function awayOf(error: unknown): string | undefined {
  if (error instanceof Fault) return error.message;
  if (isNoResponders(error)) return "No picker runs.";
  const cause = error instanceof RequestError && error.cause !== undefined ? error.cause : error;
  if (cause instanceof TimeoutError)
    return "There was no answer in time. The request may have been carried out nevertheless.";
  if (cause instanceof JsError) return "JetStream cannot answer now.";
  return natsErrors.some((type) => cause instanceof type) ? "The NATS server cannot be reached now." : undefined;
}

const natsErrors = [ClosedConnectionError, ConnectionError, DrainingConnectionError, PermissionViolationError];
