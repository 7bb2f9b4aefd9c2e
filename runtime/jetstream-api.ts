// The few calls of JetStream's API that we make directly: one code path for answers, API errors and "no responders".
import type { Msg } from "@nats-io/transport-node";
import { type Bus, isNoResponders, requestOn } from "./bus.ts";
import { Fault, messageOf } from "./fault.ts";

/** JetStream's error numbers. Its error texts must not be searched instead. */
export const jsErrors = {
  wrongLastSequence: 10071,
  /** Another check of the same subject is in flight, so the result is not certain yet. */
  wrongLastSequenceConstant: 10164,
  messageNotFound: 10037,
  streamNotFound: 10059,
  streamNameInUse: 10058,
  /** The errors of a cluster that is still forming: too few servers, JetStream is not ready, or it has no leader. */
  noSuitablePeers: 10005,
  clusterNotAvailable: 10008,
  clusterNotLeader: 10009,
  bytesExceeded: 10077,
  insufficientStorage: 10047,
  purgeFailed: 10051,
} as const;

export class JsError extends Error {
  readonly number: number;
  constructor(number: number, description: string) {
    super(description);
    this.number = number;
  }
}

const callTimeoutMs = 5000;
/** A read without an answer for this long is sent again, and then after pauses that double each time. */
const readAgainMs = 250;
/** A NATS server that reads its users again has no JetStream for a moment. */
const absentMsMax = 2000;
const absentPauseMs = 20;
/** They change nothing. */
const isRead = /^STREAM\.(INFO|NAMES|MSG\.GET)\b/;

/** @throws JsError if JetStream refuses the call. Errors of the connection are passed through. */
export async function callJs<T>(bus: Bus, call: string, request: unknown = ""): Promise<T> {
  const payload = request === "" ? "" : JSON.stringify(request);
  const ask = (): Promise<Msg> =>
    oncePresent(() => requestOn(bus, `$JS.API.${call}`, payload, { timeoutMs: callTimeoutMs }));
  const reply = isRead.test(call) ? await firstAnswer(ask) : await ask();
  return answerOf<T>(reply.string());
}

/** No server has received a call without responders. So it is repeated, even one that changes something. */
async function oncePresent(ask: () => Promise<Msg>): Promise<Msg> {
  const until = performance.now() + absentMsMax;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!isNoResponders(error) || performance.now() >= until) throw error;
      await new Promise((resolve) => setTimeout(resolve, absentPauseMs));
    }
  }
}

/** The server that was asked may be gone. An answer to an earlier question counts all the same. */
async function firstAnswer(ask: () => Promise<Msg>): Promise<Msg> {
  const { promise, resolve, reject } = Promise.withResolvers<Msg>();
  let timer: NodeJS.Timeout | undefined;
  const askAfter = (waitMs: number): void => {
    ask().then(resolve, reject);
    if (waitMs < callTimeoutMs) timer = setTimeout(() => askAfter(waitMs * 2), waitMs);
  };
  askAfter(readAgainMs);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

export function answerOf<T>(text: string): T {
  const answer = JSON.parse(text) as { error?: { err_code?: number; code?: number; description?: string } };
  if (answer.error !== undefined) {
    throw new JsError(answer.error.err_code ?? answer.error.code ?? 0, answer.error.description ?? "JetStream refuses");
  }
  return answer as T;
}

export function isJsError(error: unknown, number: number): boolean {
  return error instanceof JsError && error.number === number;
}

/** Undefined if the stream does not exist. */
export async function ifStream<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isJsError(error, jsErrors.streamNotFound)) return undefined;
    throw error;
  }
}

/** For a reader of one pool: the watch of the streams says once, for all pools, that a stream is gone. */
export function unlessGone(report: (error: unknown) => void): (error: unknown) => void {
  return (error) => {
    if (!isJsError(error, jsErrors.streamNotFound)) report(error);
  };
}

/** The stream that has the subject. Undefined if there is none, or none that this user may see. */
export async function streamOf(bus: Bus, subject: string): Promise<string | undefined> {
  return (await callJs<{ streams: string[] | null }>(bus, "STREAM.NAMES", { subject })).streams?.[0];
}

/** @throws Fault "retry-later": an error of the broker says nothing about what is stored. */
export async function answered<T>(asked: Promise<T>): Promise<T> {
  return asked.catch((cause) => {
    if (cause instanceof Fault) throw cause;
    throw new Fault("retry-later", `JetStream does not answer: ${messageOf(cause)}`, { cause });
  });
}

export interface StoredMessage {
  subject: string;
  seq: number;
  /** ms, by the broker's clock. */
  storedAt: number;
  header(name: string): string | undefined;
  bytes: Uint8Array;
}

interface RawMessage {
  message: { subject: string; seq: number; time: string; hdrs?: string; data?: string };
}

/** From the stream's leader, never from a replica that may be behind. Undefined if there is no such message. */
export async function storedMessage(
  bus: Bus,
  stream: string,
  which:
    | { seq: number; next_by_subj?: string }
    | { start_time: string; next_by_subj: string }
    | { last_by_subj: string },
): Promise<StoredMessage | undefined> {
  try {
    const { message } = await callJs<RawMessage>(bus, `STREAM.MSG.GET.${stream}`, which);
    const head = message.hdrs === undefined ? "" : Buffer.from(message.hdrs, "base64").toString();
    return {
      subject: message.subject,
      seq: message.seq,
      storedAt: Math.floor(Date.parse(message.time)),
      header: (name) => headerIn(head, name),
      bytes: Buffer.from(message.data ?? "", "base64"),
    };
  } catch (error) {
    if (isJsError(error, jsErrors.messageNotFound)) return undefined;
    throw error;
  }
}

function headerIn(head: string, name: string): string | undefined {
  const line = head.split("\r\n").find((each) => each.toLowerCase().startsWith(`${name.toLowerCase()}:`));
  return line?.slice(name.length + 1).trim();
}

export interface StreamInfo {
  config: Record<string, unknown>;
  /** How many subjects there are to list, if they were asked for. */
  total?: number;
  state: { messages: number; bytes: number; first_seq: number; last_seq: number; subjects?: Record<string, number> };
  /** The same in the life of a stream, whichever server has it. */
  created?: string;
  /** The broker's time. */
  ts?: string;
}

export async function streamInfo(bus: Bus, stream: string, request: unknown = ""): Promise<StreamInfo> {
  return callJs<StreamInfo>(bus, `STREAM.INFO.${stream}`, request);
}

/** All subjects with a message that match the filter, by the stream's leader. It lists a bounded number per answer. */
export async function subjectsOf(bus: Bus, stream: string, filter: string): Promise<string[]> {
  const subjects: string[] = [];
  for (;;) {
    const { state, total = 0 } = await streamInfo(bus, stream, { subjects_filter: filter, offset: subjects.length });
    const listed = Object.keys(state.subjects ?? {});
    subjects.push(...listed);
    if (listed.length === 0 || subjects.length >= total) return subjects;
  }
}

/** The clock that stamps the stream's messages, in ms, as of the broker's answer. */
export async function brokerNow(bus: Bus, stream: string): Promise<number> {
  const { ts } = await streamInfo(bus, stream);
  if (ts === undefined)
    throw new Fault("fix-setup", "The NATS server does not tell its time: 2.10 or newer is needed.");
  return Date.parse(ts);
}

/** The broker's clock minus this machine's, in ms, and the largest possible error. */
export async function clockOffset(bus: Bus, stream: string): Promise<{ offsetMs: number; withinMs: number }> {
  const before = Date.now();
  const then = await brokerNow(bus, stream);
  const after = Date.now();
  const middle = (before + after) / 2;
  return { offsetMs: Math.round(then - middle), withinMs: Math.ceil((after - before) / 2) + 1 };
}

/** An error of a call, in words. */
export function failureOf(error: unknown): string {
  if (error instanceof JsError) return `JetStream error ${error.number}: ${error.message}`;
  if (isNoResponders(error)) return "JetStream does not answer (503)";
  return messageOf(error);
}
