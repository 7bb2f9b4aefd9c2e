// A minimal NATS client: a TCP socket and the text protocol, without our code or the official client's. It sees the
// wire as a worker in any language would, so a test through it tests the contract.
//
// It never reconnects and hides nothing: a -ERR is kept in `errors`, a lost connection fails every open request.
// https://docs.nats.io/reference/reference-protocols/nats-protocol

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

const TIMEOUT_MS = 10_000;
/** The longest control line accepted. A server's INFO is the longest one; it contains all URLs of its cluster. */
const CONTROL_LINE_BYTES_MAX = 65_536;
const CRLF = "\r\n";
/** On a busy machine a login may arrive after the server's limit of two seconds. That is not a refusal. */
const TOO_LATE = "Authentication Timeout";
const LOGINS_MAX = 5;

export class RawNatsError extends Error {
  readonly code: "timeout" | "closed" | "refused" | "protocol";

  constructor(code: RawNatsError["code"], message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = "RawNatsError";
    this.code = code;
  }
}

export type RawMessage = {
  readonly subject: string;
  readonly reply?: string;
  /** Names as they arrived; values of a repeated name are joined with ", ". Empty if there were no headers. */
  readonly headers: ReadonlyMap<string, string>;
  /** The status line's number, if any. 503 means that the subject has no listener. */
  readonly status?: number;
  readonly bytes: Uint8Array;
  readonly body: string;
  /** The body parsed as JSON. The caller states the type; nothing checks it. */
  json<T = unknown>(): T;
};

export type Body = string | Uint8Array;

export type RawNats = {
  /** The server's INFO. */
  readonly info: Readonly<Record<string, unknown>>;
  /** Every -ERR so far, without its quotes. */
  readonly errors: readonly string[];
  /** The prefix of this connection's reply subjects. */
  readonly inbox: string;
  /**
   * Publishes and waits for one answer. A 503 is an answer, too. `reply` replaces this connection's inbox as the reply
   * subject; the answer is then the first message on it.
   */
  request(
    subject: string,
    body?: Body,
    options?: { timeoutMs?: number; reply?: string; headers?: Readonly<Record<string, string>> },
  ): Promise<RawMessage>;
  publish(subject: string, body?: Body, options?: { headers?: Readonly<Record<string, string>>; reply?: string }): void;
  /** Returns a function that ends the subscription. Another connection's message may still miss it until `flush`. */
  subscribe(subject: string, onMessage: (message: RawMessage) => void, options?: { queue?: string }): () => void;
  /** Waits until the server has handled everything sent before. */
  flush(options?: { timeoutMs?: number }): Promise<void>;
  close(): Promise<void>;
};

/**
 * Connects to `nats://[user:password@ | token@]host:port`. Inboxes are `_INBOX.<random>.<n>`, for a user
 * `_INBOX.<user>.<random>.<n>`. Throws RawNatsError: "refused" with the server's words, "closed", or "timeout".
 */
export async function connectRaw(url: string, { timeoutMs = TIMEOUT_MS } = {}): Promise<RawNats> {
  const { hostname, port, username, password } = new URL(url);
  const user = decodeURIComponent(username);
  const pass = decodeURIComponent(password);
  const login = user === "" ? {} : pass === "" ? { auth_token: user } : { user, pass };
  const prefix = "user" in login ? `_INBOX.${user}` : "_INBOX";
  for (let logins = 1; ; logins++) {
    const socket = connect({ host: hostname, port: Number(port || 4222), noDelay: true });
    const connection = new Connection(socket, `${prefix}.${randomBytes(9).toString("base64url")}`);
    try {
      await connection.open(login, timeoutMs);
      return connection;
    } catch (error) {
      socket.destroy();
      if (!(error instanceof RawNatsError) || error.message !== TOO_LATE || logins === LOGINS_MAX) throw error;
    }
  }
}

type Waiting<T> = { resolve(value: T): void; reject(error: Error): void };

class Connection implements RawNats {
  info: Record<string, unknown> = {};
  readonly errors: string[] = [];
  readonly inbox: string;
  readonly #socket: Socket;
  readonly #frames = new FrameReader();
  readonly #callbacks = new Map<number, (message: RawMessage) => void>();
  readonly #replies = new Map<string, (message: RawMessage) => void>();
  /** Every open wait, so that a lost connection ends them all. */
  readonly #waits = new Set<Waiting<never>>();
  readonly #pongs: (() => void)[] = [];
  #onInfo: () => void = () => {};
  #lastSid = 0;
  #lastReply = 0;
  #lost: RawNatsError | undefined;

  constructor(socket: Socket, inbox: string) {
    this.#socket = socket;
    this.inbox = inbox;
    socket.on("data", (chunk) => this.#take(chunk));
    socket.on("error", (error) => this.#lose(new RawNatsError("closed", error.message, { cause: error })));
    socket.on("close", () => this.#lose(new RawNatsError("closed", this.errors.at(-1) ?? "the connection was closed")));
  }

  async open(login: Record<string, string>, timeoutMs: number): Promise<void> {
    await this.#wait<void>("no INFO from the server", timeoutMs, (done) => {
      this.#onInfo = done;
    });
    const options = { verbose: false, pedantic: false, headers: true, no_responders: true, protocol: 1, lang: "raw" };
    this.#socket.write(`CONNECT ${JSON.stringify({ ...options, ...login })}${CRLF}`);
    try {
      await this.flush({ timeoutMs });
    } catch (error) {
      // A server that refuses says so and closes. Its message says more than the closed connection.
      const said = this.errors[0];
      throw said === undefined ? error : new RawNatsError("refused", said, { cause: error });
    }
    this.subscribe(`${this.inbox}.*`, (message) => this.#replies.get(message.subject)?.(message));
  }

  request(
    subject: string,
    body: Body = "",
    options: { timeoutMs?: number; reply?: string; headers?: Readonly<Record<string, string>> } = {},
  ): Promise<RawMessage> {
    const { timeoutMs = TIMEOUT_MS, reply = `${this.inbox}.${++this.#lastReply}`, headers } = options;
    const send = () => this.publish(subject, body, { reply, ...(headers && { headers }) });
    return this.#wait<RawMessage>(`no answer to ${subject}`, timeoutMs, (done) => {
      if (options.reply !== undefined) {
        const unsubscribe = this.subscribe(reply, done);
        send();
        return unsubscribe;
      }
      this.#replies.set(reply, done);
      send();
      return () => this.#replies.delete(reply);
    });
  }

  publish(
    subject: string,
    body: Body = "",
    { headers, reply }: { headers?: Readonly<Record<string, string>>; reply?: string } = {},
  ): void {
    this.#mustBeOpen();
    const payload = typeof body === "string" ? Buffer.from(body) : body;
    const to = reply === undefined ? word(subject) : `${word(subject)} ${word(reply)}`;
    const head = headers === undefined ? undefined : headerBlock(headers);
    const line =
      head === undefined ? `PUB ${to} ${payload.length}` : `HPUB ${to} ${head.length} ${head.length + payload.length}`;
    // One write: after a message that is cut off halfway, the connection's next line would be read as its body.
    this.#socket.write(Buffer.concat([Buffer.from(line + CRLF), head ?? Buffer.alloc(0), payload, Buffer.from(CRLF)]));
  }

  subscribe(subject: string, onMessage: (message: RawMessage) => void, { queue }: { queue?: string } = {}): () => void {
    this.#mustBeOpen();
    const sid = ++this.#lastSid;
    this.#callbacks.set(sid, onMessage);
    this.#socket.write(`SUB ${word(subject)} ${queue === undefined ? "" : `${word(queue)} `}${sid}${CRLF}`);
    return () => {
      if (this.#callbacks.delete(sid) && this.#lost === undefined) this.#socket.write(`UNSUB ${sid}${CRLF}`);
    };
  }

  flush({ timeoutMs = TIMEOUT_MS } = {}): Promise<void> {
    return this.#wait<void>("no PONG from the server", timeoutMs, (done) => {
      this.#mustBeOpen();
      this.#pongs.push(done); // keeps its place after a timeout: pongs are matched by their order alone
      this.#socket.write(`PING${CRLF}`);
    });
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    this.#lose(new RawNatsError("closed", "closed by this side"));
    this.#socket.destroySoon(); // pending writes are still sent; the client does not wait for a server that hangs
    await closed;
  }

  #take(chunk: Buffer): void {
    const frames: Frame[] = [];
    let broken: RawNatsError | undefined;
    try {
      for (const frame of this.#frames.read(chunk)) frames.push(frame);
    } catch (error) {
      broken = error instanceof RawNatsError ? error : new RawNatsError("protocol", String(error), { cause: error });
    }
    // Outside the try: an error in a subscriber's callback belongs to the test and must reach it.
    for (const frame of frames) this.#handle(frame);
    if (broken === undefined) return;
    this.#lose(broken);
    this.#socket.destroy();
  }

  #handle(frame: Frame): void {
    switch (frame.op) {
      case "MSG":
        this.#callbacks.get(frame.sid)?.(frame.message);
        return;
      case "PING":
        this.#socket.write(`PONG${CRLF}`);
        return;
      case "PONG":
        this.#pongs.shift()?.();
        return;
      case "INFO":
        this.info = frame.info;
        this.#onInfo();
        return;
      case "-ERR":
        this.errors.push(frame.text);
        return;
      case "+OK":
        return;
    }
  }

  /** Waits until `begin`'s `done` is called. In every case calls the function that `begin` returned, to undo it. */
  async #wait<T>(what: string, timeoutMs: number, begin: (done: (value: T) => void) => unknown): Promise<T> {
    const { promise, resolve, reject } = withResolvers<T>();
    const wait: Waiting<never> = { resolve, reject };
    const timer = setTimeout(() => {
      const said = this.errors.length === 0 ? "" : ` (the server said: ${this.errors.join("; ")})`;
      reject(new RawNatsError("timeout", `${what} within ${timeoutMs} ms${said}`));
    }, timeoutMs);
    this.#waits.add(wait);
    let undo: unknown;
    try {
      undo = begin(resolve);
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waits.delete(wait);
      if (typeof undo === "function") undo();
    }
  }

  #lose(why: RawNatsError): void {
    if (this.#lost !== undefined) return;
    this.#lost = why;
    for (const wait of this.#waits) wait.reject(why);
  }

  #mustBeOpen(): void {
    if (this.#lost !== undefined) throw new RawNatsError("closed", this.#lost.message, { cause: this.#lost });
  }
}

export type Frame =
  | { op: "MSG"; sid: number; message: RawMessage }
  | { op: "INFO"; info: Record<string, unknown> }
  | { op: "-ERR"; text: string }
  | { op: "PING" | "PONG" | "+OK" };

/** Splits a server's bytes into frames, however the network split them. Bodies may contain any bytes, CRLF included. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  /** The MSG or HMSG line whose body has not arrived completely. */
  #open: { words: string[]; headBytes: number; totalBytes: number } | undefined;

  /** The frames that this chunk completes. Throws RawNatsError "protocol" for anything that no NATS server sends. */
  *read(chunk: Uint8Array): Generator<Frame, void> {
    this.#rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const frame = this.#open === undefined ? this.#line() : this.#body(this.#open);
      if (frame === undefined) return;
      if (frame !== "more") yield frame;
    }
  }

  #line(): Frame | "more" | undefined {
    const end = this.#rest.indexOf(CRLF);
    if (end === -1) {
      if (this.#rest.length > CONTROL_LINE_BYTES_MAX) throw new RawNatsError("protocol", "a control line without end");
      return undefined;
    }
    const line = this.#rest.toString("utf8", 0, end);
    this.#rest = this.#rest.subarray(end + CRLF.length);
    const [op = "", ...words] = line.split(/[ \t]+/);
    switch (op.toUpperCase()) {
      case "MSG":
      case "HMSG": {
        const withHeaders = op.toUpperCase() === "HMSG";
        const sizes = words.splice(withHeaders ? -2 : -1).map(Number);
        const totalBytes = sizes.at(-1) ?? Number.NaN;
        const headBytes = withHeaders ? (sizes[0] ?? Number.NaN) : 0;
        const sound = Number.isSafeInteger(totalBytes) && headBytes >= 0 && headBytes <= totalBytes;
        if (!sound || words.length < 2 || words.length > 3)
          throw new RawNatsError("protocol", `not understood: ${line}`);
        this.#open = { words, headBytes, totalBytes };
        return "more";
      }
      case "INFO":
        return { op: "INFO", info: JSON.parse(line.slice(op.length)) };
      case "-ERR":
        return {
          op: "-ERR",
          text: line
            .slice(op.length)
            .trim()
            .replace(/^'(.*)'$/, "$1"),
        };
      case "PING":
      case "PONG":
      case "+OK":
        return { op: op.toUpperCase() as "PING" | "PONG" | "+OK" }; // the switch allows only these three
      default:
        throw new RawNatsError("protocol", `not understood: ${line}`);
    }
  }

  #body({
    words,
    headBytes,
    totalBytes,
  }: {
    words: string[];
    headBytes: number;
    totalBytes: number;
  }): Frame | undefined {
    if (this.#rest.length < totalBytes + CRLF.length) return undefined;
    const bytes = this.#rest.subarray(headBytes, totalBytes);
    const head = this.#rest.toString("utf8", 0, headBytes);
    if (this.#rest.toString("latin1", totalBytes, totalBytes + CRLF.length) !== CRLF) {
      throw new RawNatsError("protocol", `a body longer than announced: ${words.join(" ")}`);
    }
    this.#rest = this.#rest.subarray(totalBytes + CRLF.length);
    this.#open = undefined;
    const [subject = "", sid = "", reply] = words;
    const message: RawMessage = {
      subject,
      ...(reply !== undefined && { reply }),
      ...readHeaders(head),
      bytes,
      get body() {
        return bytes.toString("utf8");
      },
      json: () => JSON.parse(bytes.toString("utf8")),
    };
    return { op: "MSG", sid: Number(sid), message };
  }
}

/** `NATS/1.0[ status[ words]]`, then `Name: value` lines (ADR-4). */
function readHeaders(block: string): { headers: Map<string, string>; status?: number } {
  const headers = new Map<string, string>();
  if (block === "") return { headers };
  const [first = "", ...lines] = block.split(CRLF);
  const version = /^NATS\/1\.\d+(?: +(\d{3}))?/.exec(first);
  if (version === null) throw new RawNatsError("protocol", `not a header block: ${first}`);
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon < 1) continue; // the empty line at the end
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).trim();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return { headers, ...(version[1] !== undefined && { status: Number(version[1]) }) };
}

function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => {
    if (/[\r\n]/.test(name + value) || name.includes(":")) throw new RawNatsError("protocol", `not a header: ${name}`);
    return `${name}: ${value}${CRLF}`;
  });
  return Buffer.from(`NATS/1.0${CRLF}${lines.join("")}${CRLF}`);
}

/** A subject or queue name as one word of a control line. White space in it would change the line's meaning. */
function word(text: string): string {
  if (text === "" || /\s/.test(text)) throw new RawNatsError("protocol", `not a subject: ${JSON.stringify(text)}`);
  return text;
}

function withResolvers<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
