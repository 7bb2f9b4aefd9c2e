// Reads the entries of a list that may be long. In `up` the picker shares this process, so no piece of work may take
// long: lines are read in pieces, and a JSON document, which must be parsed in one go, by a thread.
import {
  beginningChars,
  isJsonDocument,
  type ListEntry,
  ListReader,
  linesOf,
  type Reads,
  readList,
} from "../../lists/list.ts";
import { Fault } from "../../runtime/fault.ts";
import { isOutOfMemory, piecesOf } from "../../runtime/thread.ts";
import type { Share } from "./room.ts";
import type { Pause } from "./seen.ts";

/** Starting a thread takes longer than parsing this much. */
const longChars = 256 * 1024;
/** A document may need ten times its size. */
const threadMegabytesMax = 1536;
/** Lines that are read between two pauses, those without an entry included. */
const linesAtOnce = 250;

/** @throws Fault "fix-setup" if a document needs too much memory. */
export async function* entriesIn(
  text: string,
  { scheme, pause, share, stopping }: Reads & { pause: Pause; share: Pick<Share, "parsing">; stopping: AbortSignal },
): AsyncGenerator<ListEntry> {
  if (isJsonDocument(text.slice(0, beginningChars))) {
    if (text.length > longChars) yield* share.parsing(() => inThread(text, { reads: { scheme }, stopping }), stopping);
    else yield* readList(text, { scheme });
    return;
  }
  const reader = new ListReader({ scheme });
  let lines = 0;
  for (const line of linesOf(text)) {
    if (++lines % linesAtOnce === 0) await pause();
    yield* reader.read(line);
  }
  yield* reader.end();
}

async function* inThread(
  text: string,
  { reads, stopping }: { reads: Reads; stopping: AbortSignal },
): AsyncGenerator<ListEntry> {
  const script = new URL("./list-thread.ts", import.meta.url);
  const thread = { script, input: { text, reads }, megabytesMax: threadMegabytesMax, stopping };
  try {
    for await (const batch of piecesOf<ListEntry[]>(thread)) {
      if (batch.length === 0) return;
      yield* batch;
    }
  } catch (error) {
    if (stopping.aborted) throw new Fault("retry-later", "the source is no longer followed", { cause: error });
    if (!isOutOfMemory(error)) throw error;
    throw new Fault(
      "fix-setup",
      "the JSON needs too much memory to be read: give lines, or split it into several sources",
    );
  }
}
