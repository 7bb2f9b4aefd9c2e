// Reads stored messages in batches with JetStream's direct gets (ADR-31). They need no consumer, so a reader leaves
// nothing on the server and needs no right to create anything.
//
// On a cluster any replica answers them, even one that is behind. So an answer without messages never means that a
// stream ends there: only the stream's leader knows its end (`storedMessage`).
import type { Msg } from "@nats-io/transport-node";
import type { Bus } from "./bus.ts";
import { Fault } from "./fault.ts";
import { JsError, type StoredMessage } from "./jetstream-api.ts";

export interface Wanted {
  subject: string;
  /** The first sequence that is wanted. */
  seq: number;
  messagesMax: number;
  /** The server stops after the message that reaches it. */
  bytesMax: number;
  /** The longest time between two messages of a batch. */
  silenceMsMax: number;
}

export interface Batch {
  messages: StoredMessage[];
  /** The replica that answered has more. */
  hasMore: boolean;
  /** The stream allows no direct gets, or has no replica at the moment. */
  isUnanswered?: true;
}

const status = { endOfBatch: 204, notFound: 404, noResponders: 503 } as const;

/** @throws JsError if the server refuses, Fault "retry-later" if it does not answer or the connection goes down. */
export async function directBatch(bus: Bus, stream: string, wanted: Wanted): Promise<Batch> {
  const down = bus.whenDown();
  const { promise: answer, resolve, reject } = Promise.withResolvers<Batch>();
  answer.catch(() => {}); // If the link goes down first, the answer no longer matters.
  const messages: StoredMessage[] = [];
  const callback = (error: Error | null, message: Msg): void => {
    timer.refresh();
    if (error !== null) return reject(error);
    const { headers } = message;
    const code = headers?.code ?? 0;
    const pending = headers?.get("Nats-Num-Pending") ?? "";
    if (code === 0) {
      messages.push(fromDirect(message));
      // A server before 2.11 knows no batches. It sends one message, without this header.
      if (pending === "") resolve({ messages, hasMore: true });
    } else if (code === status.endOfBatch) resolve({ messages, hasMore: Number(pending) > 0 });
    else if (code === status.notFound) resolve({ messages, hasMore: false });
    else if (code === status.noResponders) resolve({ messages, hasMore: false, isUnanswered: true });
    else reject(new JsError(code, headers?.description ?? "JetStream refuses"));
  };
  if (!bus.up) return down.promise;
  const timer = setTimeout(() => reject(silent(stream)), wanted.silenceMsMax);
  // A reply subject of its own. The server keeps an import of a service with many answers until the reply subject has
  // no subscriber any more.
  const inbox = bus.newInbox();
  const subscription = bus.nc.subscribe(inbox, { callback });
  try {
    const { subject, seq, messagesMax, bytesMax } = wanted;
    const request = { seq: Math.max(1, seq), next_by_subj: subject, batch: messagesMax, max_bytes: bytesMax };
    bus.nc.publish(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(request), { reply: inbox });
    return await Promise.race([answer, down.promise]);
  } finally {
    subscription.unsubscribe();
    clearTimeout(timer);
    down.cancel();
  }
}

function fromDirect({ headers, data }: Msg): StoredMessage {
  return {
    subject: headers?.get("Nats-Subject") ?? "",
    seq: Number(headers?.get("Nats-Sequence")),
    storedAt: Math.floor(Date.parse(headers?.get("Nats-Time-Stamp") ?? "")),
    header: (name) => headers?.get(name) || undefined,
    bytes: data,
  };
}

function silent(stream: string): Fault {
  return new Fault("retry-later", `A direct get on the stream ${stream} was not answered to its end.`);
}
