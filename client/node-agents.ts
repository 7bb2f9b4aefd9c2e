// Agents of node:http and node:https, for tools that are built on these modules: axios, got, node-fetch. Such a tool
// writes its request to a connection. Here the connection leads to an HTTP server within this process, which dispatches
// the request through a lease and writes the answer back. So requests are classified, tried again and cut in one place
// for all tools. Nothing listens on a port.
import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Agent as SecureAgent } from "node:https";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import { codeOf } from "../transport/failure.ts";
import { End } from "./connection-pair.ts";
import { RemudaFault } from "./fault.ts";

/** For got as they are, for axios as `httpAgent` and `httpsAgent`. */
export interface NodeAgents {
  http: Agent;
  https: SecureAgent;
}

interface Destination {
  host?: string | null | undefined;
  port?: string | number | null | undefined;
}

const requestHeadBytesMax = 256 * 1024;
/** Of one connection, and not of the request. `expect`: the server here has answered it. */
const perConnection =
  /^(connection|proxy-connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|http2-settings)$/;
/** The time limits of such tools. A cancelled request has another code. */
const timeLimits = ["ETIMEDOUT", "ECONNABORTED", "ESOCKETTIMEDOUT", "TimeoutError"];

export function agentsThrough(dispatcher: Dispatcher): NodeAgents {
  const origins = new WeakMap<Duplex, string>();
  const server = createServer({ maxHeaderSize: requestHeadBytesMax, requestTimeout: 0 }, (request, response) => {
    const relay = new Relay(response);
    const origin = origins.get(request.socket) ?? "";
    const { method = "GET", url = "/" } = request;
    const sent = { origin, path: url, method, headers: headersOf(request), body: bodyOf(request) };
    try {
      dispatcher.dispatch(sent as Dispatcher.DispatchOptions, relay);
    } catch (error) {
      relay.onError(error as Error); // undici throws only Errors.
    }
  });
  server.on("clientError", (error, socket) => void socket.destroy(error));
  for (const event of ["connect", "upgrade"] as const)
    server.on(event, (_request, end: Duplex) => {
      (end as End).other?.destroy(
        new RemudaFault("wrong-options", "A request through a leased proxy cannot be upgraded."),
      );
    });
  return { http: new LeasedAgent(server, origins), https: new LeasedSecureAgent(server, origins) };
}

class LeasedAgent extends Agent {
  readonly #connect: (to: Destination) => Duplex;

  constructor(server: Server, origins: WeakMap<Duplex, string>) {
    super({ keepAlive: false });
    this.#connect = (to) => connectTo(`http://${addressOf(to, 80)}`, server, origins);
  }

  override createConnection(to: Destination): Duplex {
    return this.#connect(to);
  }
}

class LeasedSecureAgent extends SecureAgent {
  readonly #connect: (to: Destination) => Duplex;

  constructor(server: Server, origins: WeakMap<Duplex, string>) {
    super({ keepAlive: false });
    this.#connect = (to) => connectTo(`https://${addressOf(to, 443)}`, server, origins);
  }

  override createConnection(to: Destination): Duplex {
    return this.#connect(to);
  }
}

function connectTo(url: string, server: Server, origins: WeakMap<Duplex, string>): Duplex {
  const [caller, end] = End.pair();
  end.on("error", () => {}); // The caller's end has it.
  origins.set(end, new URL(url).origin);
  server.emit("connection", end);
  return caller;
}

function addressOf({ host, port }: Destination, usualPort: number): string {
  const name = host ?? "localhost";
  return `${isIP(name) === 6 ? `[${name}]` : name}:${port ?? usualPort}`;
}

/** Names and values as they came, without those of the connection. */
function headersOf({ rawHeaders, headers }: IncomingMessage): string[] {
  const named = new Set((headers.connection ?? "").toLowerCase().split(/\s*,\s*/));
  return withoutConnection(rawHeaders, named);
}

function withoutConnection(raw: readonly string[], named: ReadonlySet<string> = new Set()): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name = "", value = ""] = [raw[i], raw[i + 1]];
    if (!perConnection.test(name.toLowerCase()) && !named.has(name.toLowerCase())) kept.push(name, value);
  }
  return kept;
}

/** If the target answers before it has read the body, the connection must stay. */
function bodyOf(request: IncomingMessage): AsyncIterable<Buffer> | null {
  const { "content-length": length = "0", "transfer-encoding": coding } = request.headers;
  if (coding === undefined && Number(length) === 0) return null;
  return { [Symbol.asyncIterator]: () => request.iterator({ destroyOnReturn: false }) };
}

/** Writes the answer to the caller's connection. */
class Relay implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  readonly #caller: End | undefined;
  #abort: ((reason?: Error) => void) | undefined;

  constructor(response: ServerResponse) {
    this.#response = response;
    this.#caller = (response.socket as unknown as End | null)?.other; // Only ends come here.
    response.on("error", () => {}).on("close", () => this.#closed());
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.#abort = abort;
    if (this.#response.closed) this.#closed();
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, text: string): boolean {
    if (status < 200) return true;
    const headers = withoutConnection(raw.map((each) => each.toString("latin1")));
    this.#response.sendDate = false;
    const phrase = Buffer.from(text).toString("latin1"); // The bytes of the answer: undici has read them as UTF-8.
    this.#response.writeHead(status, phrase, headers).on("drain", resume);
    this.#response.write("", "latin1"); // Sends the head. `flushHeaders` would send its bytes as UTF-8 of their own.
    return true;
  }

  onData(chunk: Buffer): boolean {
    return this.#response.write(chunk);
  }

  onComplete(): void {
    this.#response.end();
  }

  /** Once it has the head, the caller sees a connection that breaks off. */
  onError(error: Error): void {
    if (this.#response.headersSent) this.#caller?.destroy();
    else this.#caller?.destroy(error);
  }

  #closed(): void {
    if (this.#response.writableFinished) return;
    const { cause, timedOut = false } = this.#caller ?? {};
    const inner = cause?.cause instanceof Error ? cause.cause.name : "";
    const isLate = timedOut || timeLimits.includes(codeOf(cause) ?? "") || timeLimits.includes(inner);
    this.#abort?.(new DOMException("The request was aborted.", isLate ? "TimeoutError" : "AbortError"));
  }
}
