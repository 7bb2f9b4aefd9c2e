// The thread that reads one long body (see off-loop.ts). It parses the body, and posts one batch per request.
import { parentPort, workerData } from "node:worker_threads";
import { readList } from "../../lists/list.ts";
import { refuse } from "../../protocol/refusal.ts";
import { parseJson } from "../../protocol/request.ts";
import { isDeep, outcomesIn, textOf } from "./body.ts";
import { refusalOfList } from "./list-check.ts";
import type { Batch, LongBody } from "./off-loop.ts";

const batchMax = 500;

const batches = batchesOf(workerData as LongBody); // off-loop.ts passes this type.
parentPort?.on("message", () => parentPort?.postMessage(batches.next().value ?? { end: true }));

function* batchesOf({ what, bytes, contentType = "", scheme }: LongBody): Generator<Batch, undefined> {
  const text = textOf(bytes);
  if (what === "proxies") {
    const refusal = refusalOfList(text, contentType);
    return refusal === undefined ? yield* inBatches(readList(text, { scheme })) : yield { refusal };
  }
  const read = parseJson(text);
  if ("refusal" in read) return yield { refusal: read.refusal };
  const outcomes = outcomesIn(read.value);
  if (outcomes !== undefined) return yield* inBatches(outcomes.map((each) => (isDeep(each) ? null : each)));
  yield { refusal: refuse("invalid-request", "outcomes: must be an array.", { field: "outcomes" }) };
}

function* inBatches(items: Iterable<unknown>): Generator<Batch, undefined> {
  let batch: unknown[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length < batchMax) continue;
    yield { items: batch };
    batch = [];
  }
  if (batch.length > 0) yield { items: batch };
}
