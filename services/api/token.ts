// Guest tokens over HTTP: passed on, and judged by the picker.
import { z } from "zod";
import { waitMsMax } from "../../protocol/lease.ts";
import { type Ask, sendAnswer } from "./ask.ts";
import { answers } from "./reply.ts";
import { type Api, inPool, numberInQuery, objectIn, waitIn } from "./request.ts";

const tags = ["tokens"];
const token = z.object({
  tokenId: z.string(),
  value: z.string(),
  mintedAt: z.int(),
  expiresAt: z.int().exactOptional(),
  proxyId: z.string().exactOptional(),
});
const rejected = z.object({
  action: z.enum(["refreshing", "kept", "ignored"]),
  tokenId: z.string(),
  retryAfterMs: z.int().exactOptional(),
});

export function tokenRoutes(api: Api, { ask }: { ask: Ask }): void {
  api.get(
    "/v1/pools/:pool/token",
    {
      schema: {
        tags,
        summary: "The present guest token",
        params: inPool,
        querystring: z.object({ proxyId: z.string().optional(), waitMs: numberInQuery }),
        response: answers({ 200: token }),
      },
    },
    async (request, reply) => {
      const { pool } = request.params;
      const body = request.query;
      return sendAnswer(reply, await ask({ verb: "token.get", pool, body, waitMs: waitIn(body, waitMsMax) }));
    },
  );

  api.post(
    "/v1/pools/:pool/token/reject",
    {
      schema: {
        tags,
        summary: "Say that a target no longer takes a guest token",
        params: inPool,
        body: z.object({ tokenId: z.string(), proxyId: z.string().optional() }),
        response: answers({ 200: rejected }),
      },
    },
    async (request, reply) =>
      sendAnswer(reply, await ask({ verb: "token.reject", pool: request.params.pool, body: objectIn(request.body) })),
  );
}
