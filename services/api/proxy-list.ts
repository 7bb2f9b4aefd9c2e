// Proxy lists over HTTP: every format that the importer reads, sent on in slices. A long list is read while it is sent,
// and a long JSON document is read by a separate thread. So no list blocks the process for longer than a slice takes.

import {
  beginningChars,
  isJsonDocument,
  type ListEntry,
  ListReader,
  linesOf,
  type Reads,
  readList,
  toSend,
} from "../../lists/list.ts";
import { type AddReply, type ListScheme, type RejectedEntry, rejectedListedMax } from "../../protocol/proxy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { Read } from "../../protocol/request.ts";
import type { Ask } from "./ask.ts";
import { textOf } from "./body.ts";
import { mustBeJson, refusalOfList } from "./list-check.ts";
import { isLong, readOffLoop, withPauses } from "./off-loop.ts";
import { askInSlices, type Sized, slicesOf } from "./slices.ts";

interface List {
  bytes: Buffer;
  contentType: string;
  scheme?: ListScheme | undefined;
  /** The client has gone: nothing more is sent on. */
  stopping: AbortSignal;
}

/** As many as make one commit. */
const entriesMax = 1000;

export async function addList(ask: Ask, given: List & { pool: string }): Promise<AddReply | Refusal> {
  const { pool, stopping } = given;
  const entries = entriesIn(given);
  if ("refusal" in entries) return entries.refusal;
  const total = { added: 0, already: 0, updated: 0, rejectedCount: 0 };
  const rejected: RejectedEntry[] = [];
  const list = (entry: RejectedEntry): void => {
    if (rejected.length < rejectedListedMax) rejected.push(entry);
  };
  const readable = async function* (): AsyncGenerator<Sized<ListEntry & { ok: true; sent: object }>> {
    for await (const entry of entries.value) {
      if (entry.ok) {
        const sent = toSend(entry);
        yield { item: { ...entry, sent }, bytes: Buffer.byteLength(JSON.stringify(sent)) };
      } else {
        total.rejectedCount++;
        list({ line: lineOf(entry), input: entry.input, why: entry.why });
      }
    }
  };
  const refusal = await askInSlices(ask, {
    verb: "proxies.add",
    pool,
    slices: slicesOf(readable(), entriesMax),
    stopping,
    body: (slice) => ({ proxies: slice.map(({ sent }) => sent) }),
    take: (part: AddReply, slice) => {
      total.added += part.added;
      total.already += part.already;
      total.updated += part.updated;
      total.rejectedCount += part.rejectedCount;
      // A picker of another version may accept less than this version.
      for (const { line, ...rest } of part.rejected) {
        const entry = slice[line - 1];
        list({ line: entry === undefined ? line : lineOf(entry), ...rest });
      }
    },
  });
  if (refusal !== undefined) return refusal;
  const { rejectedCount, ...counts } = total;
  return { ...counts, rejected: rejected.toSorted((a, b) => a.line - b.line), rejectedCount };
}

/** If the body is not a list, it is refused at once, or by the thread that reads it, as its first answer. */
function entriesIn({ bytes, contentType, scheme, stopping }: List): Read<AsyncIterable<ListEntry>> {
  const beginning = textOf(bytes.subarray(0, beginningChars));
  if (isLong(bytes) && (isJsonDocument(beginning) || mustBeJson(beginning, contentType)))
    return { value: readOffLoop<ListEntry>({ what: "proxies", bytes, contentType, scheme }, stopping) };
  const text = textOf(bytes);
  const refusal = refusalOfList(text, contentType);
  if (refusal !== undefined) return { refusal };
  return {
    value: isLong(bytes) ? byLines(text, { scheme, stopping }) : withPauses(readList(text, { scheme }), stopping),
  };
}

/** It pauses between lines, those without an entry included. */
async function* byLines(
  text: string,
  { scheme, stopping }: Reads & { stopping: AbortSignal },
): AsyncGenerator<ListEntry> {
  const reader = new ListReader({ scheme });
  for await (const line of withPauses(linesOf(text), stopping)) yield* reader.read(line);
  yield* reader.end();
}

/** The line of an entry in a text, or its place in an array; from 1. */
function lineOf({ at }: ListEntry): number {
  return "line" in at ? at.line : at.index + 1;
}
