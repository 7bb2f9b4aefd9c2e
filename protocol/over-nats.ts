// The contract over NATS, as a responder (runtime/responder.ts) needs it.
import { poolNameSchema } from "../events/ids.ts";
import { refusalNumbers } from "../events/refusal.ts";
import { isRefusal, refuse, requestBytesMax, tooLarge } from "./refusal.ts";
import { notJson, parseJson, type Read, readAs } from "./request.ts";
import { requestSubject } from "./subjects.ts";
import type { Verb } from "./verbs.ts";

export const overNats = {
  read({ bytes, text }: { bytes: number; text: () => string | undefined }): Read<unknown> {
    if (bytes > requestBytesMax) return { refusal: tooLarge(bytes) };
    const read = text();
    return read === undefined ? { refusal: notJson() } : parseJson(read);
  },
  /** A header is one line. Names from the request may contain line breaks. */
  errorOf(answer: object): { number: number; sentence: string } | undefined {
    if (!isRefusal(answer)) return undefined;
    return { number: refusalNumbers[answer.code], sentence: answer.message.replace(/[\r\n]+/g, " ") };
  },
  tooLarge: refuse("too-large", "The answer is larger than the NATS server accepts. Ask for less (limit)."),
};

/** The login of the HTTP service. It alone may send requests for other users. */
export const httpLogin = "http";
/** The user of the key with which a request came over HTTP. */
export const userHeader = "Remuda-User";

/** The name of the user that sends a request. */
export function senderIn({ inbox, header }: { inbox: string; header: (name: string) => string | undefined }): string {
  const [, login = ""] = inbox.split(".");
  return login === httpLogin ? (header(userHeader) ?? login) : login;
}

/** The pool's name at the end of a subject. */
export function poolIn(subject: string, verb: Verb): Read<string> {
  return readAs(poolNameSchema, subject.slice(requestSubject(verb, "").length), ["pool"]);
}
