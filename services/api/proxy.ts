// Proxies over HTTP.
import { z } from "zod";
import { timesFrom } from "../../protocol/moment.ts";
import {
  type ChangedReply,
  listRequestSchema,
  proxyEntrySchema,
  restRequestSchema,
  retireRequestSchema,
} from "../../protocol/proxy.ts";
import { isRefusal, refuse } from "../../protocol/refusal.ts";
import { type Answer, type Ask, type Asked, replyIn, sendAnswer } from "./ask.ts";
import { addList } from "./proxy-list.ts";
import { sendRefusal } from "./refusal.ts";
import { added, answers, changed, proxies, proxy } from "./reply.ts";
import { type Api, bytesOf, inPool, inPoolById, listBytesMax, numberInQuery, objectIn } from "./request.ts";

const tags = ["proxies"];
const listSchema = z.array(z.union([z.string(), proxyEntrySchema]));
const listShape = listRequestSchema.shape;

export function proxyRoutes(api: Api, { ask }: { ask: Ask }): void {
  api.post(
    "/v1/pools/:pool/proxies",
    {
      bodyLimit: listBytesMax,
      config: { rawBody: true },
      schema: {
        tags,
        summary: "Add proxies",
        description:
          'A list of lines (`text/plain`, `text/csv`), a JSON array, or {"proxies": […]}; up to 32 MiB. Adding again changes nothing.',
        params: inPool,
        consumes: ["application/json", "text/plain", "text/csv"],
        body: z.union([z.object({ proxies: listSchema }), listSchema, z.string()]),
        response: answers({ 200: added }),
      },
    },
    async (request, reply) => {
      const bytes = bytesOf(request.body);
      const { contentType } = request;
      const result = await addList(ask, { pool: request.params.pool, bytes, contentType });
      return isRefusal(result) ? sendRefusal(reply, result) : reply.send(result);
    },
  );

  api.get(
    "/v1/pools/:pool/proxies",
    {
      schema: {
        tags,
        summary: "Proxies, by id",
        description:
          "`label.<name>=<value>`, as often as you like: only those that have all of these labels. `at`: as they were then, in epoch " +
          "milliseconds, or (below 10^11) after the commit with this sequence in the ledger's stream.",
        params: inPool,
        querystring: z.looseObject({
          state: listShape.state,
          after: listShape.after,
          limit: numberInQuery,
          at: numberInQuery,
        }),
        response: answers({ 200: proxies }),
      },
    },
    async (request, reply) => {
      const { state, after, limit, at, ...others } = request.query;
      const body = { state, after, limit, ...labelsIn(others) };
      const { pool } = request.params;
      if (at !== undefined) {
        const moment = at >= timesFrom ? { at } : { sequence: at };
        return sendAnswer(reply, await ask({ verb: "audit.proxies", pool, body: { ...body, ...moment } }));
      }
      return sendAnswer(reply, await ask({ verb: "proxies.list", pool, body }));
    },
  );

  api.get(
    "/v1/pools/:pool/proxies/:id",
    { schema: { tags, summary: "One proxy", params: inPoolById, response: answers({ 200: proxy }) } },
    async (request, reply) => {
      const { pool, id } = request.params;
      return sendAnswer(reply, await ask({ verb: "proxies.get", pool, body: { id } }));
    },
  );

  api.delete(
    "/v1/pools/:pool/proxies/:id",
    {
      schema: {
        tags,
        summary: "Retire a proxy",
        params: inPoolById,
        querystring: z.object({ reason: retireRequestSchema.shape.reason }),
        response: answers({ 200: changed }),
      },
    },
    async (request, reply) => {
      const { pool, id } = request.params;
      return sendAnswer(
        reply,
        await change(ask, { verb: "proxies.retire", pool, body: { ids: [id], ...request.query } }),
      );
    },
  );

  api.post(
    "/v1/pools/:pool/proxies/:id/rest",
    {
      schema: {
        tags,
        summary: "Let a proxy rest (cool down) for a time",
        params: inPoolById,
        body: restRequestSchema.omit({ ids: true }),
        response: answers({ 200: changed }),
      },
    },
    async (request, reply) => {
      const { pool, id } = request.params;
      const body = { ...objectIn(request.body), ids: [id] };
      return sendAnswer(reply, await change(ask, { verb: "proxies.rest", pool, body }));
    },
  );

  api.post(
    "/v1/pools/:pool/proxies/:id/revive",
    { schema: { tags, summary: "End a proxy's rest", params: inPoolById, response: answers({ 200: changed }) } },
    async (request, reply) => {
      const { pool, id } = request.params;
      return sendAnswer(reply, await change(ask, { verb: "proxies.revive", pool, body: { ids: [id] } }));
    },
  );
}

/** The one proxy that the path names: that it is unknown is a refusal here. */
async function change(ask: Ask, asked: Asked): Promise<Answer> {
  const answer = await ask(asked);
  if ("refusal" in answer || replyIn<ChangedReply>(answer).unknown.length === 0) return answer;
  return { refusal: refuse("unknown-proxy", "No proxy of this pool has this id.") };
}

function labelsIn(query: Record<string, unknown>): { labels?: Record<string, unknown> } {
  const labels = Object.entries(query).filter(([name]) => name.startsWith("label."));
  if (labels.length === 0) return {};
  return { labels: Object.fromEntries(labels.map(([name, value]) => [name.slice("label.".length), value])) };
}
