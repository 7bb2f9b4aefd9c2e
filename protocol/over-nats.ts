// The contract over NATS, as a responder (runtime/responder.ts) needs it.
import { leaseIdSchema, poolNameSchema, printable, requestIdSchema } from "../events/ids.ts";
import { refusalNumbers } from "../events/refusal.ts";
import { isRefusal, overloaded, type Refusal, refuse, requestBytesMax, tooLarge } from "./refusal.ts";
import { notJson, parseJson, type Read, readAs } from "./request.ts";
import { userNamePattern } from "./rights.ts";
import { requestSubject } from "./subjects.ts";
import { isAct, type Verb } from "./verbs.ts";

interface Sent {
  /** Its verb. */
  name: string;
  subject: string;
  /** Undefined: it cannot be read. */
  body: unknown;
  inbox: string;
  header: (name: string) => string | undefined;
}

/**
 * The parts of a request that may be logged. They are small, however large the request is. They are checked only if a
 * line is logged.
 */
interface Noted {
  verb: Verb;
  subject: string;
  user: string;
  leaseId: string | undefined;
  requestId: string | undefined;
}

export const overNats = {
  read({ bytes, text }: { bytes: number; text: () => string | undefined }): Read<unknown> {
    if (bytes > requestBytesMax) return { refusal: tooLarge(bytes) };
    const read = text();
    return read === undefined ? { refusal: notJson() } : parseJson(read);
  },
  senderOf: senderIn,
  /** A header is one line. Names from the request may contain line breaks. */
  errorOf(answer: object): { number: number; sentence: string } | undefined {
    if (!isRefusal(answer)) return undefined;
    return { number: refusalNumbers[answer.code], sentence: answer.message.replace(/[\r\n]+/g, " ") };
  },
  noted({ name, subject, body, ...sent }: Sent): Noted {
    const { requestId, leaseId } = (body ?? {}) as { requestId?: unknown; leaseId?: unknown };
    const verb = name as Verb; // Services serve a verb under its name.
    return { verb, subject, user: senderIn(sent), leaseId: idIn(leaseId), requestId: idIn(requestId) };
  },
  /** The log line of an answer. Undefined: no line. It omits a refusal's sentence, which may quote the request. */
  noteOf(noted: Noted, answer: object): { text: string; fields: object } | undefined {
    if (isRefusal(answer)) {
      const { code, field } = answer;
      return { text: "a request was refused", fields: { ...fieldsOf(noted), code, field } };
    }
    if (!isAct(noted.verb)) return undefined;
    return { text: "an administrator's request was carried out", fields: fieldsOf(noted) };
  },
  failed: refuse("unavailable", "The request could not be answered because of a bug. The service's log names it.", {
    retryAfterMs: 1000,
  }),
  tooMany: overloaded("More requests are waiting to be read than are allowed. Retry shortly."),
  tooLarge(bytesMax: number | undefined): Refusal {
    const isLow = bytesMax !== undefined && bytesMax < payloadBytesUsual;
    const todo = isLow ? "Set max_payload: 4MB in its configuration, and reload it." : "Ask for less (limit).";
    return refuse("too-large", `The answer is larger than the NATS server accepts (${bytesMax} bytes). ${todo}`);
  },
};

/**
 * The size that a NATS server accepts if its configuration names none. Every answer fits, unless it has very many
 * entries.
 */
const payloadBytesUsual = 1024 ** 2;

/** More than any user's name or id has. */
const nameCharsMax = 128;

/** Undefined if it cannot be an id: it may be as large as a request. */
function idIn(value: unknown): string | undefined {
  return typeof value === "string" && value.length <= nameCharsMax ? value : undefined;
}

function fieldsOf({ verb, subject, user, leaseId, requestId }: Noted): object {
  const pool = poolIn(subject, verb);
  return {
    verb,
    ...("value" in pool ? { pool: pool.value } : {}),
    ...(userNamePattern.test(user) ? { user } : {}), // Without users it is a random inbox.
    leaseId: leaseIdSchema.safeParse(leaseId).data,
    requestId: requestIdSchema.safeParse(requestId).data,
  };
}

/** The logins of the services that may send requests for other users. */
const forOthers: readonly string[] = ["http", "gateway"];
/** The user of the key with which a request came over HTTP, or to the gateway. */
export const userHeader = "Remuda-User";

/**
 * The name of the user that sends a request. Empty if no user can have it: a header may be as large as a message, and
 * the name is kept, recorded and shown.
 */
export function senderIn({ inbox, header }: { inbox: string; header: (name: string) => string | undefined }): string {
  const start = inbox.indexOf(".") + 1;
  const end = inbox.indexOf(".", start);
  const login = start === 0 ? "" : inbox.slice(start, end === -1 ? undefined : end);
  const sent = forOthers.includes(login) ? header(userHeader) : undefined;
  // As a copy: a piece of the headers would keep all of them.
  const name = sent === undefined ? login : [...sent.slice(0, nameCharsMax + 1)].join("");
  return userNamePattern.test(name) || (name.length <= nameCharsMax && printable.test(name)) ? name : "";
}

/** The pool's name at the end of a subject. */
export function poolIn(subject: string, verb: Verb): Read<string> {
  return readAs(poolNameSchema, subject.slice(requestSubject(verb, "").length), ["pool"]);
}
