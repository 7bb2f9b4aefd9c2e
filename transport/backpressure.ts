// undici's connections, changed so that data held back by a slow reader waits in the socket and undici's parser never
// pauses. Version 7 of undici (also the one inside Node) pauses the parser. If the server then ends the connection, as
// any server may after its answer, a complete answer fails, or an uncatchable assertion ends the process (undici issue
// 5360). Version 8 has the fix, but needs Node 22.19 or newer.
//
// These connections also correct undici in two points. An answer without a body, by its status, is complete whatever its
// Content-Length says (RFC 9110, 8.6). And a connection that broke when it was used again says so.
import type { Socket } from "node:net";
import { Agent, type buildConnector, Client, type Dispatcher, errors, Pool } from "undici";
import { codeOf, failedIn, isLost } from "./failure.ts";

/** undici's own default. */
const bodyTimeoutMs = 300_000;
const lengthMismatch = "UND_ERR_RES_CONTENT_LENGTH_MISMATCH";
/** Statuses whose answers have no body. */
const bodiless = [204, 304];

export function agentOf(options: Agent.Options): Agent {
  return new Agent({ ...options, factory: (origin, given) => poolOf(origin, given) });
}

export function poolOf(origin: string | URL, options: Pool.Options): Pool {
  return new Pool(origin, { ...options, factory: (at, given) => clientOf(at, given) });
}

/** One connection at a time, and one request on it. */
function clientOf(origin: URL, options: Client.Options): Client {
  const valve = new Valve();
  const connect = options.connect as buildConnector.connector; // A pool has already made it a connector.
  const client = new Client(origin, {
    ...options,
    connect: (target, callback) =>
      connect(target, (...opened) => {
        if (opened[0] === null) valve.fit(opened[1]);
        callback(...opened);
      }),
    bodyTimeout: 0, // It would count a reader's time as the server's.
  });
  const dispatch = client.dispatch.bind(client);
  client.dispatch = (sent, handler) =>
    dispatch(sent, new Throttled(handler, valve, options.bodyTimeout ?? bodyTimeoutMs));
  return client;
}

/** While it is shut, a read returns nothing. The socket fills up, and then the sender waits. */
class Valve {
  #socket: Socket | undefined;
  #shut = false;
  /** Requests that the present socket has carried. */
  carried = 0;

  fit(socket: Socket): void {
    this.carried = 0;
    const read = socket.read.bind(socket);
    this.#socket = socket;
    this.#shut = false;
    // A read of zero bytes is the stream's own way of filling itself.
    socket.read = (size) => (this.#shut && size !== 0 ? null : read(size));
  }

  shut(): void {
    this.#shut = true;
  }

  open(): void {
    if (!this.#shut) return;
    this.#shut = false;
    const socket = this.#socket;
    // Later, because it may be opened from within another connection's parser, and only one parser runs at a time.
    process.nextTick(() => socket?.emit("readable"));
  }
}

class Throttled implements Dispatcher.DispatchHandler {
  readonly #inner: Dispatcher.DispatchHandler;
  readonly #valve: Valve;
  readonly #timeoutMs: number;
  #timer: NodeJS.Timeout | undefined;
  #abort: ((error?: Error) => void) | undefined;
  #over = false;
  #reuses = false;
  #started = false;
  #status = 0;

  constructor(inner: Dispatcher.DispatchHandler, valve: Valve, timeoutMs: number) {
    this.#inner = inner;
    this.#valve = valve;
    this.#timeoutMs = timeoutMs;
  }

  onConnect(abort: (error?: Error) => void): void {
    this.#abort = abort;
    this.#reuses = this.#valve.carried > 0;
    this.#valve.carried += 1;
    this.#inner.onConnect?.(abort);
  }

  onResponseStarted(): void {
    this.#started = true;
    this.#inner.onResponseStarted?.();
  }

  onBodySent(chunkSize: number, totalBytesSent: number): void {
    this.#inner.onBodySent?.(chunkSize, totalBytesSent);
  }

  onUpgrade(status: number, headers: Buffer[] | string[] | null, socket: Socket): void {
    this.#inner.onUpgrade?.(status, headers, socket);
  }

  onHeaders(status: number, headers: Buffer[], _resume: () => void, text: string): boolean {
    this.#status = status;
    const goesOn = this.#inner.onHeaders?.(status, headers, () => this.#resume(), text) ?? true;
    if (status >= 200) this.#wait(goesOn);
    return true;
  }

  onData(chunk: Buffer): boolean {
    this.#wait(this.#inner.onData?.(chunk) ?? true);
    return true;
  }

  onComplete(trailers: string[] | null): void {
    this.#end();
    this.#inner.onComplete?.(trailers);
  }

  onError(error: Error): void {
    if (bodiless.includes(this.#status) && codeOf(error) === lengthMismatch) return this.onComplete([]);
    this.#end();
    if (this.#reuses && !this.#started && isLost(error)) failedIn("reuse", error);
    this.#inner.onError?.(error);
  }

  #resume(): void {
    if (this.#over) return; // The connection may belong to another request by now.
    this.#valve.open();
    this.#wait(true);
  }

  #wait(goesOn: boolean): void {
    if (this.#over) return;
    clearTimeout(this.#timer);
    if (!goesOn) return this.#valve.shut();
    if (this.#timeoutMs > 0)
      this.#timer = setTimeout(() => this.#abort?.(new errors.BodyTimeoutError()), this.#timeoutMs);
  }

  #end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#valve.open();
  }
}
