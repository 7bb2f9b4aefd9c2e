// Lists of proxies over HTTP. A list may be sent in any format. A list may be read as of a past moment, which the audit
// answers.
import { z } from "zod";
import { timesFrom } from "../../events/words.ts";
import { listRequestSchema, listSchemeSchema, proxyEntrySchema } from "../../protocol/proxy.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import { rolesFor, routeOf } from "../../protocol/verbs.ts";
import { sendAnswer } from "./ask.ts";
import { addList } from "./proxy-list.ts";
import { sendRefusal } from "./refusal.ts";
import { type Api, bytesOf, inPool, listBytesMax, numberInQuery } from "./request.ts";
import { described } from "./routes.ts";

const listSchema = z.array(z.union([z.string(), proxyEntrySchema]));
const listShape = listRequestSchema.shape;

export function proxyRoutes(api: Api): void {
  api.post(
    routeOf("proxies.add").path,
    {
      bodyLimit: listBytesMax,
      config: { rawBody: true, roles: rolesFor("proxies.add") },
      schema: {
        ...described("proxies.add"),
        params: inPool,
        querystring: z.object({ scheme: listSchemeSchema.optional() }),
        consumes: ["application/json", "text/plain", "text/csv"],
        body: z.union([z.object({ proxies: listSchema }), listSchema, z.string()]),
      },
    },
    async (request, reply) => {
      const bytes = bytesOf(request.body);
      const { contentType } = request;
      const list = { pool: request.params.pool, bytes, contentType, ...request.query };
      const result = await request.upload.job((stopping) => addList(request.ask, { ...list, stopping }));
      return isRefusal(result) ? sendRefusal(reply, result) : reply.send(result);
    },
  );

  api.get(
    routeOf("proxies.list").path,
    {
      config: { roles: rolesFor("proxies.list") },
      schema: {
        ...described("proxies.list"),
        params: inPool,
        querystring: z.looseObject({
          state: listShape.state,
          text: listShape.text,
          after: listShape.after,
          limit: numberInQuery,
          at: numberInQuery,
        }),
      },
    },
    async (request, reply) => {
      const { state, text, after, limit, at, ...others } = request.query;
      const body = { ...unknownIn(others), state, text, after, limit, ...labelsIn(others) };
      const { ask } = request;
      const { pool } = request.params;
      if (at !== undefined) {
        const moment = at >= timesFrom ? { at } : { sequence: at };
        return sendAnswer(reply, await ask({ verb: "audit.proxies", pool, body: { ...body, ...moment } }));
      }
      return sendAnswer(reply, await ask({ verb: "proxies.list", pool, body }));
    },
  );
}

/** The reply names them. */
function unknownIn(query: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(query).filter(([name]) => !name.startsWith("label.")));
}

function labelsIn(query: Record<string, unknown>): { labels?: Record<string, unknown> } {
  const labels = Object.entries(query).filter(([name]) => name.startsWith("label."));
  if (labels.length === 0) return {};
  return { labels: Object.fromEntries(labels.map(([name, value]) => [name.slice("label.".length), value])) };
}
