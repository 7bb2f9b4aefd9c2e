// Makes the request of one refresh: through its lease's proxy, once, within its time, with a bounded answer. It reports
// the outcome of the use, for the proxy, and the token. None of its errors quotes the answer, which may have a token in
// it.
import { Dispatcher, request } from "undici";
import type { WhyRefused } from "../../events/token.ts";
import type { Outcome } from "../../protocol/outcome.ts";
import type { TokenJob, TokenResult } from "../../protocol/token.ts";
import { codeOf } from "../../runtime/fault.ts";
import { agentsForOne, type ProxyAgent } from "../../transport/agents.ts";
import { hungShare, outcomeOf } from "../../transport/classify.ts";
import type { Route } from "../../transport/failure.ts";
import { factsOf, type HeadFacts } from "../../transport/head.ts";
import { NotAllowed, type Outbound } from "../../transport/outbound.ts";
import { Pieces } from "../../transport/pieces.ts";
import { answerBytesMax, readToken } from "./answer.ts";
import type { Expressions } from "./expressions.ts";

/** The result without the names. A token's life counts from the sending of the request. */
export type Fetched = Omit<TokenResult, "tokenId" | "leaseId" | "leftMs">;

class TooLarge extends Error {}

export interface FetchPorts {
  expressions: Pick<Expressions, "firstMatch">;
  outbound: Outbound;
}

/** @param endsAt an instant of `performance.now()`: nothing is sent later. */
export async function fetchToken(job: TokenJob, endsAt: number, ports: FetchPorts): Promise<Fetched> {
  const { source } = job;
  const sentAt = performance.now();
  const timeoutMs = Math.floor(Math.min(source.timeoutMs, endsAt - sentAt));
  // A policy that is older than the validation of whole URLs may have an invalid one.
  if (timeoutMs <= 0 || !URL.canParse(source.url)) return { why: timeoutMs <= 0 ? "not-sent" : "unreachable" };
  const agents = agentsForOne(timeoutMs, ports.outbound);
  const cut = AbortSignal.timeout(timeoutMs);
  const through = new ThroughProxy(agents.enter(job));
  let said: HeadFacts | undefined;
  let bytes = 0;
  const ended = (error?: Error): Omit<Outcome, "leaseId"> => {
    const { leaseId: _lease, ...outcome } = outcomeOf({
      leaseId: job.leaseId,
      n: 1,
      target: new URL(source.url).hostname,
      latencyMs: performance.now() - sentAt,
      bytes,
      ...said,
      error,
      route: through.route,
    });
    return outcome;
  };
  // A request that had less than half of the source's time, because the refresh is over, proves nothing.
  const reason = timeoutMs / source.timeoutMs < hungShare ? "client-abort" : "timeout";
  try {
    const reply = await request(source.url, {
      method: source.method,
      headers: source.headers,
      ...(source.body === null ? {} : { body: source.body }),
      dispatcher: through,
      signal: cut,
    });
    const status = reply.statusCode;
    said = factsOf({ status, forwarded: through.route === "forwarded", header: (name) => textOf(reply.headers[name]) });
    if (status < 200 || status > 299) {
      reply.body.on("error", () => {}).destroy(); // Its head is enough.
      return { outcome: ended(), why: "status" };
    }
    const pieces = new Pieces();
    for await (const piece of reply.body as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > answerBytesMax) throw new TooLarge();
      pieces.add(piece);
    }
    const outcome = ended();
    const read = await readToken({ headers: reply.headers, body: Buffer.concat(pieces.all()) }, source, ports);
    if ("why" in read) return { outcome, why: read.why };
    return { outcome, ...read };
  } catch (error) {
    if (error instanceof TooLarge) return { outcome: ended(), why: "too-large" };
    if (cut.aborted) return { outcome: { ...ended(), reason }, why: "timeout" };
    return { outcome: ended(error as Error), why: whyOf(error) }; // Only errors are thrown there.
  } finally {
    await agents.close();
  }
}

function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(", ") : header;
}

function whyOf(error: unknown): WhyRefused {
  if (error instanceof NotAllowed) return "not-allowed";
  const code = codeOf(error);
  if (code === "UND_ERR_HEADERS_OVERFLOW" || code === "HPE_HEADER_OVERFLOW") return "too-large";
  return code.includes("TIMEOUT") || code === "ETIMEDOUT" ? "timeout" : "unreachable";
}

class ThroughProxy extends Dispatcher {
  readonly #agent: ProxyAgent;
  route: Route = "tunnelled";

  constructor(agent: ProxyAgent) {
    super();
    this.#agent = agent;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    this.route = this.#agent.send(options, handler).route;
    return true;
  }
}
