// A request in plain sight: absolute form, reverse form, or inside a tunnel. Each that leaves is one use. It goes
// through the client's dispatcher (client/leased-dispatcher.ts), which leases, retries and reports.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Dispatcher } from "undici";
import type { Use } from "../../client/block.ts";
import { LeasedDispatcher, type ProxyAgents, type Uses } from "../../client/leased-dispatcher.ts";
import { refuse } from "../../protocol/refusal.ts";
import { authorityOf, originOf } from "./address.ts";
import { type Answer, answerTo, badRequest, bodyOf, headersOf } from "./answer.ts";
import { hasBody, passedOn } from "./headers.ts";
import { type GatewayPorts, idsOf, type Routed, termsOf, triesOf } from "./ports.ts";

/** After a failed try the wait for another proxy is short: the client has already waited once. */
const retryWaitMsMax = 5000;
const hostHeader: ReadonlySet<string> = new Set(["host", "expect"]);
const framing: ReadonlySet<string> = new Set(["content-length"]);

export interface Exchanged {
  request: IncomingMessage;
  response: ServerResponse;
  /** It waits for "100 Continue" before it sends its body. */
  expects: boolean;
}

/** Where the uses and connections of requests come from. */
export interface Through {
  take(avoid: ReadonlySet<string>, signal: AbortSignal): Promise<Use>;
  agents: ProxyAgents;
  tries: number;
}

/** Through any proxy of the pool. */
export function throughPool(ports: GatewayPorts, routed: Routed): Through {
  const { agents, metrics } = ports;
  const { leasing, pool, options } = routed;
  const terms = termsOf(ports, routed);
  const take = async (avoid: ReadonlySet<string>, signal: AbortSignal): Promise<Use> => {
    if (avoid.size > 0) metrics.retried();
    const waitMs = avoid.size === 0 ? options.waitMs : Math.min(options.waitMs, retryWaitMsMax);
    const startedAt = performance.now();
    const avoiding = options.session === undefined ? avoid : new Set<string>();
    const use = await leasing.take(pool, terms, { avoid: avoiding, waitMs, signal });
    metrics.waited(performance.now() - startedAt);
    return use;
  };
  return { take, agents, tries: triesOf(routed) };
}

export function forward(
  ports: GatewayPorts,
  routed: Routed,
  { request, response, expects }: Exchanged,
  through: Through,
): Promise<void> {
  const { target, leasing, pool, kind } = routed;
  const gone = new AbortController();
  let current: Use | undefined;
  const uses: Uses = {
    async take(avoid) {
      current = await through.take(avoid, gone.signal);
      return current;
    },
    ended: (use, outcome) => void leasing.ended(use, { ...outcome, counted: "request" }),
  };
  const dispatcher = new LeasedDispatcher(uses, through.agents, { retries: through.tries, signal: gone.signal });
  const drop = isOfGateway(request.headers.referer) ? new Set([...hostHeader, "referer"]) : hostHeader;
  const headers = ["Host", authorityOf(target), ...passedOn(request.rawHeaders, { drop })];
  if (ports.via !== undefined) headers.push("Via", `${request.httpVersion} ${ports.via}`);
  const leave = (): void => gone.abort(new Error("The client left."));
  return new Promise((resolve) => {
    const over = (result: Parameters<typeof ports.metrics.request>[2]): void => {
      ports.metrics.request(pool, kind, result);
      resolve();
    };
    const relay = new Relay({ request, response, ports, routed, use: () => current, over });
    const left = (): void => {
      leave();
      relay.leave();
    };
    if (response.destroyed) return left(); // While its pool was looked up.
    response.once("close", () => {
      if (!response.writableFinished) left();
    });
    const sent = {
      origin: originOf(target),
      path: target.path,
      method: request.method as Dispatcher.HttpMethod, // undici refuses a method that it cannot send.
      headers,
      body: hasBody(request.rawHeaders) ? body({ request, response, expects }, ports, leave) : null,
    };
    // undici takes anything that can be iterated; its type says otherwise.
    dispatcher.dispatch(sent as unknown as Dispatcher.DispatchOptions, relay);
  });
}

/** The URL of a request in reverse mode. It may have a key in its path, so no target gets it. */
function isOfGateway(referer: string | undefined): boolean {
  return referer !== undefined && /^https?:\/\/[^/]*\/-/i.test(referer);
}

/** Read only once a connection is there. Until then a client that waits for "100 Continue" need not send it. */
async function* body(
  { request, response, expects }: Exchanged,
  { metrics }: GatewayPorts,
  leave: () => void,
): AsyncGenerator<Buffer> {
  if (expects) response.writeContinue();
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      metrics.bytesUp += chunk.length;
      yield chunk;
    }
  } catch {
    leave();
    throw new Error("The client left."); // Without a code: no proxy is to blame.
  }
}

interface Relaying {
  request: IncomingMessage;
  response: ServerResponse;
  ports: GatewayPorts;
  routed: Routed;
  /** The use that the answer belongs to. */
  use(): Use | undefined;
  over(result: "answered" | "refused" | "failed" | "aborted"): void;
}

/** The answer on its way to the client. */
class Relay implements Dispatcher.DispatchHandler {
  readonly #to: Relaying;
  #abort: ((error?: Error) => void) | undefined;
  #isOver = false;

  constructor(to: Relaying) {
    this.#to = to;
  }

  leave(): void {
    this.#abort?.(new Error("The client left."));
    this.#end("aborted");
  }

  onConnect(abort: (error?: Error) => void): void {
    this.#abort = abort;
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, text: string): boolean {
    const { request, response, routed, use } = this.#to;
    if (status < 200) return true;
    const fields = raw.map((each) => each.toString("latin1"));
    // No target asks for the login of a proxy: a vendor's proxy behind the leased one does.
    if (status === 407 && routed.kind === "http") {
      this.onError(Object.assign(new Error("A proxy on the way answered 407."), { code: "ERR_PROXY" }));
      this.#abort?.();
      return false;
    }
    const isChunked = fields.some((each, place) => place % 2 === 0 && each.toLowerCase() === "transfer-encoding");
    const headers = passedOn(fields, isChunked ? { drop: framing } : {});
    const block = use()?.block;
    if (block !== undefined) headers.push(...Object.entries(idsOf(block)).flat());
    response.sendDate = false;
    try {
      response.writeHead(status, text, headers);
    } catch {
      this.onError(Object.assign(new Error("The answer has an invalid header."), { code: "HPE_INVALID_HEADER_TOKEN" }));
      this.#abort?.();
      return false;
    }
    response.on("drain", resume);
    // The body often comes with the head: then one write takes both.
    response.cork();
    process.nextTick(() => {
      if (!response.writableEnded && request.method !== "HEAD") response.flushHeaders();
      response.uncork();
    });
    return true;
  }

  onData(chunk: Buffer): boolean {
    this.#to.ports.metrics.bytesDown += chunk.length;
    return this.#to.response.write(chunk);
  }

  onComplete(trailers: string[] | null): void {
    const { response } = this.#to;
    const pairs: [string, string][] = [];
    for (let place = 0; trailers !== null && place + 1 < trailers.length; place += 2)
      pairs.push([String(trailers[place]), String(trailers[place + 1])]);
    if (pairs.length > 0) response.addTrailers(pairs);
    response.end();
    this.#end("answered");
  }

  onError(error: Error): void {
    if (this.#isOver) return;
    const { request, response } = this.#to;
    if (response.headersSent) {
      request.socket.resetAndDestroy(); // So that the client sees that the answer broke off.
      return this.#end("failed");
    }
    const answer = isUnsendable(error) ? badRequest(refuse("invalid-request", `${error.message}.`)) : answerTo(error);
    send(answer, response);
    this.#end(answer.status < 500 || answer.status === 503 ? "refused" : "failed");
  }

  #end(result: "answered" | "refused" | "failed" | "aborted"): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#to.over(result);
  }
}

/** The client library takes no such request, such as one whose method is not a token. */
function isUnsendable(error: Error): boolean {
  return "code" in error && (error.code === "UND_ERR_INVALID_ARG" || error.code === "UND_ERR_NOT_SUPPORTED");
}

export function send(answer: Answer, response: ServerResponse): void {
  if (response.headersSent || response.destroyed) return;
  const text = bodyOf(answer);
  if (answer.isLast === true) response.shouldKeepAlive = false;
  response.writeHead(answer.status, { ...headersOf(answer), "content-length": Buffer.byteLength(text) }).end(text);
}
