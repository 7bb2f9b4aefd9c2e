// Pools over HTTP.
import { z } from "zod";
import { openRequestSchema, policyRequestSchema } from "../../protocol/pool.ts";
import { type Ask, sendAnswer } from "./ask.ts";
import { answers, pool, pools, stats } from "./reply.ts";
import { type Api, inPool, objectIn } from "./request.ts";

const tags = ["pools"];

export function poolRoutes(api: Api, { ask }: { ask: Ask }): void {
  api.get(
    "/v1/pools",
    { schema: { tags, summary: "Pools that are open", response: answers({ 200: pools }) } },
    async (_request, reply) => sendAnswer(reply, await ask({ verb: "pool.list" })),
  );

  api.put(
    "/v1/pools/:pool",
    {
      schema: {
        tags,
        summary: "Open a pool",
        description: "Where it is open, the policy given is merged over the present one.",
        params: inPool,
        body: openRequestSchema,
        response: answers({ 200: pool }),
      },
    },
    async (request, reply) =>
      sendAnswer(reply, await ask({ verb: "pool.open", pool: request.params.pool, body: objectIn(request.body) })),
  );

  api.get(
    "/v1/pools/:pool",
    { schema: { tags, summary: "A pool and its policy", params: inPool, response: answers({ 200: pool }) } },
    async (request, reply) => sendAnswer(reply, await ask({ verb: "pool.get", pool: request.params.pool })),
  );

  api.patch(
    "/v1/pools/:pool",
    {
      schema: {
        tags,
        summary: "Change a policy",
        description: "A partial document, merged over the present one; `ifVersion` guards against a change in between.",
        params: inPool,
        body: policyRequestSchema,
        response: answers({ 200: pool }),
      },
    },
    async (request, reply) =>
      sendAnswer(reply, await ask({ verb: "pool.policy", pool: request.params.pool, body: objectIn(request.body) })),
  );

  api.delete(
    "/v1/pools/:pool",
    {
      schema: {
        tags,
        summary: "Close a pool",
        description: "`drain=true`: grant nothing more, and close when the last lease has ended.",
        params: inPool,
        querystring: z.object({
          drain: z
            .enum(["true", "false"])
            .transform((text) => text === "true")
            .optional(),
        }),
        response: answers({ 200: pool }),
      },
    },
    async (request, reply) =>
      sendAnswer(reply, await ask({ verb: "pool.close", pool: request.params.pool, body: request.query })),
  );

  api.get(
    "/v1/pools/:pool/stats",
    { schema: { tags, summary: "A pool in numbers", params: inPool, response: answers({ 200: stats }) } },
    async (request, reply) => sendAnswer(reply, await ask({ verb: "pool.stats", pool: request.params.pool })),
  );
}
