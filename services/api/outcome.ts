// Outcomes over HTTP: one, an array, or the body of `remuda.report`. They are in the ledger when this is answered.
import { z } from "zod";
import { warningsMax, withWarnings } from "../../protocol/fields.ts";
import { type IgnoredOutcome, outcomeSchema, outcomesMax, type ReportReply } from "../../protocol/outcome.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { ignoredListedMax } from "../../protocol/reply.ts";
import { parseJson, tooDeep } from "../../protocol/request.ts";
import { rolesFor, routeOf } from "../../protocol/verbs.ts";
import { type Ask, sendAnswer } from "./ask.ts";
import { isDeep, outcomesIn, textOf } from "./body.ts";
import { isLong, readOffLoop, withPauses } from "./off-loop.ts";
import { type AnyReply, sendRefusal } from "./refusal.ts";
import { type Api, bytesOf, inPool, listBytesMax } from "./request.ts";
import { described } from "./routes.ts";
import { askInSlices, type Sized, slicesOf } from "./slices.ts";

/** No readable outcome is larger. */
const outcomeBytesMax = 16 * 1024;

export function outcomeRoute(api: Api): void {
  api.post(
    routeOf("report").path,
    {
      bodyLimit: listBytesMax,
      config: { rawBody: true, roles: rolesFor("report") },
      schema: {
        ...described("report"),
        params: inPool,
        body: z.union([outcomeSchema, z.array(outcomeSchema)]),
      },
    },
    (request, reply) => request.upload.job((stopping) => report(request, reply, stopping)),
  );
}

async function report(
  { ask, params: { pool }, body }: { ask: Ask; params: { pool: string }; body: unknown },
  reply: AnyReply,
  stopping: AbortSignal,
): Promise<AnyReply> {
  const bytes = bytesOf(body);
  let outcomes: AsyncIterable<unknown>;
  if (isLong(bytes)) outcomes = readOffLoop({ what: "outcomes", bytes }, stopping);
  else {
    const read = parseJson(textOf(bytes));
    if ("refusal" in read) return sendRefusal(reply, read.refusal);
    const list = outcomesIn(read.value);
    if (list === undefined && isDeep(read.value)) return sendRefusal(reply, tooDeep);
    if (list === undefined) return sendAnswer(reply, await ask({ verb: "report", pool, body: read.value }));
    outcomes = withPauses(list, stopping);
  }
  const total = { accepted: 0, ignored: [] as IgnoredOutcome[], ignoredCount: 0 };
  const warnings = new Set<string>();
  const unreadable: Refusal[] = [];
  const stops = new Map<string, number>();
  const refusal = await askInSlices(partsOf(ask, unreadable), {
    verb: "report",
    pool,
    slices: slicesOf(sized(outcomes), outcomesMax),
    body: (slice) => ({ outcomes: slice }),
    stopping,
    take: (part: ReportReply & { warnings?: string[] }) => {
      total.accepted += part.accepted;
      total.ignored.push(...part.ignored.slice(0, ignoredListedMax - total.ignored.length));
      total.ignoredCount += part.ignoredCount;
      for (const each of part.warnings ?? []) warnings.add(each);
      for (const { leaseId, until } of part.stop) stops.set(leaseId, until);
    },
  });
  if (refusal !== undefined) return sendRefusal(reply, refusal);
  const { ignored, ignoredCount } = total;
  const [first] = unreadable;
  const unread = unreadable.reduce((sum, each) => sum + (each.ignoredCount ?? 0), 0);
  const said = [...warnings].slice(0, warningsMax);
  if (first !== undefined && total.accepted === 0 && unread === ignoredCount)
    return sendRefusal(reply, { ...first, ignored, ignoredCount });
  const stop = [...stops].map(([leaseId, until]) => ({ leaseId, until }));
  reply.send(withWarnings({ ...total, stop }, said));
  return reply;
}

/** A part in which no outcome can be read is refused by itself. The other parts may still be accepted. */
function partsOf(ask: Ask, unreadable: Refusal[]): Ask {
  return async (asked) => {
    const answer = await ask(asked);
    if (!("refusal" in answer) || answer.refusal.ignored === undefined) return answer;
    unreadable.push(answer.refusal);
    const { ignored, ignoredCount = 0, warnings = [] } = answer.refusal;
    const part = { accepted: 0, ignored, ignoredCount, stop: [], warnings };
    return { bytes: Buffer.from(JSON.stringify(part)) };
  };
}

/** Replaces an outcome that is too large or too deep to be read. */
const unreadable: Sized<unknown> = { item: null, bytes: 4 };

async function* sized(outcomes: AsyncIterable<unknown>): AsyncGenerator<Sized<unknown>> {
  for await (const outcome of outcomes) {
    if (isDeep(outcome)) {
      yield unreadable;
      continue;
    }
    const bytes = Buffer.byteLength(JSON.stringify(outcome));
    yield bytes > outcomeBytesMax ? unreadable : { item: outcome, bytes };
  }
}
