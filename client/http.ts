// The service over plain HTTP. No NATS is needed, nor loaded.
import { request } from "undici";
import { isRefusal } from "../events/refusal.ts";
import { codeOf, RemudaFault } from "./fault.ts";
import { agentOf } from "./held-back.ts";
import type { Ca } from "./options.ts";
import { type Attempt, Broken, bodyBytesMax, type Port } from "./port.ts";

const connectMs = 5000;
/** Replies are small: a lease, or what became of a thousand outcomes. */
const replyBytesMax = 16 << 20;

export function openHttp(url: string, { key, ca }: { key: string | undefined; ca?: Ca | undefined }): Port {
  const agent = agentOf({
    connect: { timeout: connectMs, ...(ca === undefined ? {} : { ca }) },
    bodyTimeout: 15_000,
    maxResponseSize: replyBytesMax,
  });
  return {
    bytesMax: bodyBytesMax,
    async attempt(attempt) {
      const { method, path, body } = lineOf(attempt);
      const signals = [AbortSignal.timeout(attempt.timeoutMs), ...(attempt.signal ? [attempt.signal] : [])];
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
          headersTimeout: attempt.timeoutMs,
          signal: AbortSignal.any(signals),
        });
        status = reply.statusCode;
        text = await reply.body.text();
      } catch (cause) {
        attempt.signal?.throwIfAborted();
        const why = unconnected.includes(codeOf(cause) ?? "") ? "no-connection" : "no-answer";
        throw new Broken(
          why,
          `${url} ${why === "no-answer" ? "gave no answer." : "cannot be reached. Is the service running?"}`,
          cause,
        );
      }
      return judged(status, text, url);
    },
    close: () => agent.destroy(),
  };
}

const unconnected = ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"];

interface Line {
  method: "POST" | "DELETE";
  path: string;
  body?: unknown;
}

function lineOf({ verb, pool, body }: Attempt): Line {
  const { leaseId, ...rest } = body;
  const base = `/v1/pools/${pool}`;
  const lease = `${base}/leases/${encodeURIComponent(String(leaseId))}`;
  if (verb === "lease") return { method: "POST", path: `${base}/leases`, body };
  if (verb === "report") return { method: "POST", path: `${base}/outcomes`, body };
  if (verb === "renew") return { method: "POST", path: `${lease}/renew`, body: rest };
  const used = rest["used"];
  return { method: "DELETE", path: used === undefined ? lease : `${lease}?used=${used}` };
}

function judged(status: number, text: string, url: string): unknown {
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
  throw new RemudaFault("not-remuda", `${url} answered ${status}, and not as this service does. Is the URL right?`);
}
