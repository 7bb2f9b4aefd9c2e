// Answers requests over NATS, for every service. It reads each request, passes it on, counts it, and answers at its
// inbox. It knows no term of the protocol: a contract says how to read a request, and which answers are errors.
// Invariant: an answer goes to an inbox or nowhere.
import { headers, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { Defects } from "./defects.ts";

/** @param Noted the parts of a request that may be logged; small, however large the request is. */
export interface Contract<Noted> {
  /** @param request.text returns undefined if the bytes are not UTF-8. */
  read(request: { bytes: number; text: () => string | undefined }): { value: unknown } | { refusal: object };
  /** For the service-error headers. Undefined if the answer is not an error. The sentence is one line. */
  errorOf(answer: object): { number: number; sentence: string } | undefined;
  noted(asked: Omit<Asked, keyof Unread> & { name: string }): Noted;
  /** The log line of an answer, at `info`. Undefined: no line. */
  noteOf(noted: Noted, answer: object): { text: string; fields: object } | undefined;
  /** Sent if a request cannot be answered because of a bug. */
  failed: object;
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
  /** Where the answer goes. */
  inbox: string;
  header: (name: string) => string | undefined;
}

/** Answers a request. If it fails, the request is answered all the same. */
export type Handle = (asked: Asked) => Promise<void> | undefined | void;

export interface Endpoint {
  name: string;
  subject: string;
  requests: number;
  errors: number;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });
const none = { requests: 0, errors: 0 };

export class Responder<Noted = object> {
  readonly #nc: NatsConnection;
  readonly #contract: Contract<Noted>;
  readonly #log: Logger;
  readonly #defects: Pick<Defects, "note">;
  /** By name, over all subjects that are served under it. */
  readonly #counts = new Map<string, { requests: number; errors: number }>();

  constructor(
    nc: NatsConnection,
    contract: Contract<Noted>,
    log: Logger,
    defects: Pick<Defects, "note"> = new Defects(log),
  ) {
    this.#nc = nc;
    this.#contract = contract;
    this.#log = log;
    this.#defects = defects;
  }

  /**
   * Flush before you announce the endpoint, or requests find no responder.
   * @param given.queue shared with others. @param given.admits whether there is room for a request, asked before it is
   * read; if not, it answers. Absent: always.
   */
  serve(
    given: { name: string; subject: string; queue?: string; admits?: (unread: Unread) => boolean },
    handle: Handle,
  ): Subscription {
    const { name, subject, queue, admits = () => true } = given;
    const counted = this.#counts.get(name) ?? { ...none };
    this.#counts.set(name, counted);
    const callback = (error: Error | null, message: Msg): void => {
      const inbox = message.reply;
      if (error !== null || !isInbox(inbox)) return;
      counted.requests++;
      const { subject, headers: sent } = message;
      const header = (name: string): string | undefined => sent?.get(name) || undefined;
      const bytes = message.data.length;
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
        const read = this.#contract.read({ bytes, text: () => textOf(message.data) });
        if ("refusal" in read) return respond(read.refusal);
        respond = respondTo(read.value);
        handle({ subject, body: read.value, inbox, header, bytes, respond })?.catch(failed);
      } catch (error) {
        failed(error);
      }
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
