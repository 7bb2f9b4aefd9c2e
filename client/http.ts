// The service over plain HTTP. NATS is neither needed nor loaded.
import { request } from "undici";
import { isRefusal, requestBytesMax } from "../protocol/refusal.ts";
import { routeOf, type Verb } from "../protocol/verbs.ts";
import { agentOf } from "../transport/backpressure.ts";
import { codeOf } from "../transport/failure.ts";
import type { Ca } from "../transport/tunnel.ts";
import { RemudaFault } from "./fault.ts";
import { type Attempt, Broken, orAborted, type Port } from "./port.ts";

const connectMs = 5000;
/** If a lease request is not cancelled within this time, its connection is closed. */
const cancelMs = 2000;
/** Replies are small: a lease, or the results of a thousand outcomes. */
const replyBytesMax = 16 << 20;

export function openHttp(url: string, { key, ca }: { key: string | undefined; ca?: Ca | undefined }): Port {
  const agent = agentOf({
    connect: { timeout: connectMs, ...(ca === undefined ? {} : { ca }) },
    bodyTimeout: 15_000,
    maxResponseSize: replyBytesMax,
  });
  /** By requestId. */
  const requests = new Map<string, { ended: Promise<unknown>; hangUp: AbortController }>();

  async function send({ method, path, body }: Line, timeoutMs: number, signal?: AbortSignal): Promise<unknown> {
    const signals = [AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])];
    let status: number;
    let text: string;
    try {
      const reply = await request(`${url}${path}`, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        },
        dispatcher: agent,
        headersTimeout: timeoutMs,
        signal: AbortSignal.any(signals),
      });
      status = reply.statusCode;
      text = await reply.body.text();
    } catch (cause) {
      signal?.throwIfAborted();
      const why = unconnected.includes(codeOf(cause) ?? "") ? "no-connection" : "no-answer";
      throw new Broken(
        why,
        `${url} ${why === "no-answer" ? "gave no answer." : "cannot be reached. Is the service running?"}`,
        cause,
      );
    }
    return replyOf(status, text, url);
  }

  /**
   * A lease request's connection is not simply closed: a lease granted at that moment would have no owner. The request
   * is cancelled, and the service answers it.
   */
  async function askForLease(attempt: Attempt): Promise<unknown> {
    const { body, timeoutMs, signal, late = () => {} } = attempt;
    const requestId = String(body["requestId"]);
    const hangUp = new AbortController();
    const ended = send(lineOf(attempt), timeoutMs, hangUp.signal);
    requests.set(requestId, { ended, hangUp });
    const done = (): void => {
      if (requests.get(requestId)?.hangUp === hangUp) requests.delete(requestId);
    };
    ended.then(done, done);
    try {
      return await orAborted(ended, signal);
    } catch (error) {
      if (signal?.aborted) ended.then(late, () => {});
      throw error;
    }
  }

  return {
    bytesMax: requestBytesMax,
    async attempt(attempt) {
      attempt.signal?.throwIfAborted();
      return attempt.verb === "lease" ? askForLease(attempt) : send(lineOf(attempt), attempt.timeoutMs, attempt.signal);
    },
    async cancel(pool, requestId) {
      const waiting = requests.get(requestId);
      if (waiting === undefined) return; // Between two attempts.
      const timer = setTimeout(() => waiting.hangUp.abort(), cancelMs);
      await send(lineOf({ verb: "cancel", pool, body: { requestId } }), cancelMs).catch(() => waiting.hangUp.abort());
      await waiting.ended.catch(() => {});
      clearTimeout(timer);
    },
    close: () => agent.destroy(),
  };
}

const unconnected = ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"];

interface Line {
  method: string;
  path: string;
  body?: unknown;
}

/** The line of the contract's table for this verb. Fields that are not in the path become the query of a DELETE. */
function lineOf({ verb, pool, body }: Pick<Attempt, "pool" | "body"> & { verb: Verb }): Line {
  const { method, path, named = "", parameter } = routeOf(verb);
  const { [named]: value, ...rest } = body;
  const place = path.replace(":pool", pool).replace(`:${parameter}`, encodeURIComponent(String(value)));
  if (method !== "DELETE") return { method, path: place, body: rest };
  const query = new URLSearchParams(rest as Record<string, string>).toString(); // Numbers are converted to text.
  return { method, path: query === "" ? place : `${place}?${query}` };
}

function replyOf(status: number, text: string, url: string): unknown {
  let reply: unknown;
  try {
    reply = JSON.parse(text);
  } catch {
    reply = undefined;
  }
  if (status === 401)
    throw new RemudaFault("not-allowed", `${url} does not accept this key (option key, REMUDA_HTTP_KEY).`);
  if (typeof reply === "object" && reply !== null && (status < 400 || isRefusal(reply))) return reply;
  if (status === 502 || status === 503 || status === 504) throw new Broken("no-answer", `${url} answered ${status}.`);
  throw new RemudaFault("not-remuda", `${url} answered ${status}, but not like a Remuda service. Is the URL correct?`);
}
