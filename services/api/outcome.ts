// Outcomes over HTTP: one, an array, or the body of `remuda.report`. They are in the ledger when this is answered.
import { z } from "zod";
import { outcomeSchema, outcomesMax, type ReportReply } from "../../protocol/outcome.ts";
import { parseJson } from "../../protocol/request.ts";
import { routeOf } from "../../protocol/verbs.ts";
import { type Ask, sendAnswer } from "./ask.ts";
import { isDeep, outcomesIn, textOf } from "./body.ts";
import { isLong, readOffLoop, withPauses } from "./off-loop.ts";
import { sendRefusal } from "./refusal.ts";
import { type Api, bytesOf, inPool, listBytesMax, tooDeep } from "./request.ts";
import { described } from "./routes.ts";
import { askInSlices, type Sized, slicesOf } from "./slices.ts";

/** No readable outcome is larger. */
const outcomeBytesMax = 16 * 1024;

export function outcomeRoute(api: Api, { ask }: { ask: Ask }): void {
  api.post(
    routeOf("report").path,
    {
      bodyLimit: listBytesMax,
      config: { rawBody: true },
      schema: {
        ...described("report"),
        params: inPool,
        body: z.union([outcomeSchema, z.array(outcomeSchema)]),
      },
    },
    async (request, reply) => {
      const { pool } = request.params;
      const bytes = bytesOf(request.body);
      let outcomes: AsyncIterable<unknown>;
      if (isLong(bytes)) outcomes = readOffLoop({ what: "outcomes", bytes });
      else {
        const read = parseJson(textOf(bytes));
        if ("refusal" in read) return sendRefusal(reply, read.refusal);
        const list = outcomesIn(read.value);
        if (list === undefined && isDeep(read.value)) return sendRefusal(reply, tooDeep);
        if (list === undefined) return sendAnswer(reply, await ask({ verb: "report", pool, body: read.value }));
        outcomes = withPauses(list);
      }
      const total: ReportReply = { accepted: 0, ignored: [], stop: [] };
      const stops = new Map<string, number>();
      const refusal = await askInSlices(ask, {
        verb: "report",
        pool,
        slices: slicesOf(sized(outcomes), outcomesMax),
        body: (slice) => ({ outcomes: slice }),
        take: (part: ReportReply) => {
          total.accepted += part.accepted;
          total.ignored.push(...part.ignored);
          for (const { leaseId, until } of part.stop) stops.set(leaseId, until);
        },
      });
      if (refusal !== undefined) return sendRefusal(reply, refusal);
      return reply.send({ ...total, stop: [...stops].map(([leaseId, until]) => ({ leaseId, until })) });
    },
  );
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
