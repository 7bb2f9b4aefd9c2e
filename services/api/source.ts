// Sources over HTTP. Only those that may be set by request: a file or a command is set in the sources' own file.
import { z } from "zod";
import { sourceNameSchema, sourceRequestSchema } from "../../protocol/source.ts";
import { type Ask, sendAnswer } from "./ask.ts";
import { answers, source } from "./reply.ts";
import { type Api, inPool, objectIn } from "./request.ts";

const tags = ["sources"];
const inPoolByName = inPool.extend({ name: sourceNameSchema });
/** A source that is asked now may take as long as its own timeout. */
const readMsMax = 600_000;

export function sourceRoutes(api: Api, { ask }: { ask: Ask }): void {
  api.get(
    "/v1/pools/:pool/sources",
    {
      schema: {
        tags,
        summary: "Where the proxies come from",
        params: inPool,
        response: answers({ 200: z.object({ sources: z.array(source) }) }),
      },
    },
    async (request, reply) => sendAnswer(reply, await ask({ verb: "sources.list", pool: request.params.pool })),
  );

  api.put(
    "/v1/pools/:pool/sources/:name",
    {
      schema: {
        tags,
        summary: "Follow a source",
        description: "A URL or another pool. It is asked at once, and from then on every `everyMs`.",
        params: inPoolByName,
        body: sourceRequestSchema.omit({ name: true }),
        response: answers({ 200: source }),
      },
    },
    async (request, reply) => {
      const { pool, name } = request.params;
      const body = { ...objectIn(request.body), name };
      return sendAnswer(reply, await ask({ verb: "sources.put", pool, body }));
    },
  );

  api.delete(
    "/v1/pools/:pool/sources/:name",
    {
      schema: {
        tags,
        summary: "Follow a source no longer",
        description: "The proxies that it has brought stay.",
        params: inPoolByName,
        response: answers({ 200: z.object({ removed: z.string() }) }),
      },
    },
    async (request, reply) => {
      const { pool, name } = request.params;
      return sendAnswer(reply, await ask({ verb: "sources.remove", pool, body: { name } }));
    },
  );

  api.post(
    "/v1/pools/:pool/sources/:name/read",
    {
      schema: {
        tags,
        summary: "Ask a source now",
        params: inPoolByName,
        response: answers({ 200: source }),
      },
    },
    async (request, reply) => {
      const { pool, name } = request.params;
      return sendAnswer(reply, await ask({ verb: "sources.read", pool, body: { name }, waitMs: readMsMax }));
    },
  );
}
