// Answers requests over NATS, for every service. It reads each request, passes it on, counts it, and answers at its
// inbox. It knows no term of the protocol: a contract says how to read a request, and which answers are errors. If more
// requests come than can be handled, they wait or are rejected before they are read (intake.ts).
// Invariant: an answer goes to an inbox or nowhere.
import { headers, type Msg, type MsgHdrs, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { Defects } from "./defects.ts";
import { Intake, largeBytes } from "./intake.ts";

/** @param Noted the parts of a request that may be logged; small, however large the request is. */
export interface Contract<Noted> {
  /** @param request.text returns undefined if the bytes are not UTF-8. */
  read(request: { bytes: number; text: () => string | undefined }): { value: unknown } | { refusal: object };
  /** The sender, as far as it is known. Requests of different senders do not wait for each other. */
  senderOf(request: Pick<Asked, "inbox" | "header">): string;
  /** For the service-error headers. Undefined if the answer is not an error. The sentence is one line. */
  errorOf(answer: object): { number: number; sentence: string } | undefined;
  noted(asked: Omit<Asked, keyof Unread> & { name: string }): Noted;
  /** The log line of an answer, at `info`. Undefined: no line. */
  noteOf(noted: Noted, answer: object): { text: string; fields: object } | undefined;
  /** Sent if a request cannot be answered because of a bug. */
  failed: object;
  /** Sent if more requests have come than are read. */
  tooMany: object;
  /** Sent in place of an answer that exceeds the server's size limit, which may be low for the moment. */
  tooLarge(bytesMax: number | undefined): object;
}

/** A request whose size alone is known. */
export interface Unread {
  bytes: number;
  respond: (answer: object) => void;
}

export interface Asked extends Unread {
  subject: string;
  body: unknown;
  /** The subject of the answer. */
  inbox: string;
  header: (name: string) => string | undefined;
}

/** Answers a request. If it fails, the request is answered all the same. */
export type Handle = (asked: Asked) => Promise<void> | undefined | void;

interface Served {
  name: string;
  subject: string;
  /** Shared with others. */
  queue?: string;
  /** False: a request is handled at once, or rejected. Absent: it may wait for others of its sender and name. */
  mayWait?: boolean;
  /** At most this many requests of a sender go on at the same time. Absent: 256. */
  atOnceMax?: number;
  /** Whether there is room for a request, asked before it is read; if not, it answers. Absent: always. */
  admits?: (unread: Unread) => boolean;
  /** Answers a request that is rejected because too many have come. Absent: as the contract says. */
  rejects?: (unread: Unread) => void;
}

export interface Endpoint {
  name: string;
  subject: string;
  requests: number;
  errors: number;
}

/** Larger ones are not read. */
const headersBytesMax = 16 * 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true });
const none = { requests: 0, errors: 0 };

export class Responder<Noted = object> {
  readonly #nc: NatsConnection;
  readonly #contract: Contract<Noted>;
  readonly #log: Logger;
  readonly #defects: Pick<Defects, "note">;
  readonly #intake: Intake;
  /** By name, over all subjects that are served under it. */
  readonly #counts = new Map<string, { requests: number; errors: number }>();

  constructor(
    nc: NatsConnection,
    contract: Contract<Noted>,
    log: Logger,
    { defects = new Defects(log), intake = new Intake() }: { defects?: Pick<Defects, "note">; intake?: Intake } = {},
  ) {
    this.#nc = nc;
    this.#contract = contract;
    this.#log = log;
    this.#defects = defects;
    this.#intake = intake;
  }

  /** Flush before you announce the endpoint, or requests find no responder. */
  serve(given: Served, handle: Handle): Subscription {
    const { name, subject, queue, mayWait = true, atOnceMax } = given;
    const counted = this.#counts.get(name) ?? { ...none };
    this.#counts.set(name, counted);
    const served = { ...given, counted };
    const callback = (error: Error | null, message: Msg): void => {
      const inbox = message.reply;
      if (error !== null || !isInbox(inbox)) return;
      counted.requests++;
      const came = new Came(message, inbox);
      if (!mayWait && came.bytes < largeBytes) return void this.#handle(came, served, handle);
      this.#intake.take({
        group: `${this.#contract.senderOf(came)} ${name}`,
        bytes: came.bytes,
        mayWait,
        atOnceMax,
        keep: () => came.keep(),
        run: () => this.#handle(came, served, handle),
        reject: ({ isDropped }) => this.#reject(came, served, isDropped),
      });
    };
    return this.#nc.subscribe(subject, { callback, ...(queue === undefined ? {} : { queue }) });
  }

  /** Answers a request that came to another process, at its inbox. */
  answering(name: string, inbox: string): Unread["respond"] {
    return this.#responding(inbox, this.#counts.get(name) ?? { ...none }, undefined);
  }

  /** For discovery. Also lists endpoints that are not served yet. */
  endpoints(served: readonly { name: string; subject: string }[]): Endpoint[] {
    return served.map(({ name, subject }) => ({
      name: name.replaceAll(".", "-"),
      subject,
      ...(this.#counts.get(name) ?? none),
    }));
  }

  #handle(came: Came, { name, admits = () => true, counted }: Counted, handle: Handle): Promise<void> | undefined {
    const { data, subject, inbox, header } = came;
    const bytes = data.length;
    const isLogged = this.#log.isLevelEnabled("info");
    const respondTo = (body: unknown): Unread["respond"] => {
      const noted = isLogged ? this.#contract.noted({ name, subject, inbox, header, body }) : undefined;
      return this.#responding(inbox, counted, noted);
    };
    let respond = respondTo(undefined);
    const failed = (error: unknown): void => {
      this.#defects.note("request", error, { verb: name, subject });
      respond(this.#contract.failed);
    };
    try {
      if (!admits({ bytes, respond })) return;
      const read = this.#contract.read({ bytes, text: () => textOf(data) });
      if ("refusal" in read) return void respond(read.refusal);
      respond = respondTo(read.value);
      return handle({ subject, body: read.value, inbox, header, bytes, respond })?.catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #reject({ data, inbox }: Came, { rejects, counted }: Counted, isDropped: boolean): void {
    const respond = isDropped ? () => void counted.errors++ : this.#responding(inbox, counted, undefined);
    if (rejects === undefined) respond(this.#contract.tooMany);
    else rejects({ bytes: data.length, respond });
  }

  /** The returned function may be kept for a minute, by a request that waits. So it must not keep the message. */
  #responding(inbox: string, counted: { errors: number }, noted: Noted | undefined): Unread["respond"] {
    return (answer) => {
      if (this.#contract.errorOf(answer) !== undefined) counted.errors++;
      const note = noted === undefined ? undefined : this.#contract.noteOf(noted, answer);
      if (note !== undefined) this.#log.info(note.fields, note.text);
      this.#reply(inbox, answer);
    };
  }

  #reply(inbox: string, answer: object): void {
    const error = this.#contract.errorOf(answer);
    const body = JSON.stringify(answer);
    try {
      if (error === undefined) return this.#nc.publish(inbox, body);
      const sent = headers();
      sent.set("Nats-Service-Error-Code", String(error.number));
      sent.set("Nats-Service-Error", error.sentence);
      this.#nc.publish(inbox, body, { headers: sent });
    } catch {
      // The library throws in two cases. If the connection is closed, no answer can be sent. If the answer is larger
      // than the server accepts, that is not a bug of the service that answered.
      if (error === undefined) this.#reply(inbox, this.#contract.tooLarge(this.#nc.info?.max_payload));
    }
  }
}

type Counted = Served & { counted: { errors: number } };

/** The needed parts of a message. */
class Came {
  readonly inbox: string;
  readonly #headerBytes: number;
  data: Uint8Array;
  /** Undefined once it is kept: a message is a piece of all that the socket has read, and would keep the whole. */
  #message: Msg | undefined;
  #subject = "";
  #headers: MsgHdrs | undefined;

  constructor(message: Msg, inbox: string) {
    this.inbox = inbox;
    this.data = message.data;
    this.#message = message;
    // Messages have it, but the library's type leaves it out.
    const { size } = message as Msg & { size?: () => number };
    this.#headerBytes = Math.max(0, (size?.call(message) ?? 0) - this.data.length - inbox.length);
  }

  /** With subject and headers. */
  get bytes(): number {
    return this.data.length + this.#headerBytes;
  }

  get subject(): string {
    return this.#message?.subject ?? this.#subject;
  }

  readonly header = (name: string): string | undefined => {
    if (this.#headerBytes > headersBytesMax) return undefined;
    return (this.#message === undefined ? this.#headers : this.#message.headers)?.get(name) || undefined;
  };

  keep(): void {
    if (this.#message === undefined) return;
    this.#subject = this.#message.subject;
    if (this.#headerBytes <= headersBytesMax) this.#headers = this.#message.headers;
    this.data = this.data.slice();
    this.#message = undefined;
  }
}

/** With another reply subject, a sender could make us write to a subject that it may not write to itself. */
export function isInbox(reply: string | undefined): reply is string {
  return reply?.startsWith("_INBOX.") ?? false;
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}
