// The thread that reads one JSON document (see entries.ts). It parses the document, and posts one batch of entries per
// request; an empty one is the end.
import { parentPort, workerData } from "node:worker_threads";
import { type ListEntry, type Reads, readList } from "../../lists/list.ts";

const batchMax = 500;

const { text, reads } = workerData as { text: string; reads: Reads }; // As entries.ts passes it.
const entries = readList(text, reads);
parentPort?.on("message", () => {
  const batch: ListEntry[] = [];
  for (let next = entries.next(); next.done !== true; next = entries.next()) {
    batch.push(next.value);
    if (batch.length === batchMax) break;
  }
  parentPort?.postMessage(batch);
});
