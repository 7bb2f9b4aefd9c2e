// Leases over HTTP.
//
// A client that hangs up is gone for good: a lease granted to it afterwards is released at once, unused. Unless the wish
// had a requestId: then another copy of it may have been given the same lease, by this process or another, and so the
// lease stays, for whoever asks again, until it expires.
import { z } from "zod";
import {
  type LeaseReply,
  leaseRequestSchema,
  leasesListRequestSchema,
  renewRequestSchema,
  waitMsMax,
} from "../../events/lease.ts";
import { type Ask, replyIn, sendAnswer } from "./ask.ts";
import type { AnyReply } from "./refusal.ts";
import { answers, lease, leases, released } from "./reply.ts";
import { type Api, inPool, inPoolById, numberInQuery, objectIn, waitIn } from "./request.ts";

const tags = ["leases"];
const listShape = leasesListRequestSchema.shape;

export function leaseRoutes(api: Api, { ask }: { ask: Ask }): void {
  api.post(
    "/v1/pools/:pool/leases",
    {
      schema: {
        tags,
        summary: "Lease a proxy",
        description: "Waits up to `waitMs` until one can be leased. An empty body wishes for one use of any proxy.",
        params: inPool,
        body: leaseRequestSchema,
        response: answers({ 201: lease }, 429),
      },
    },
    async (request, reply) => {
      const { pool } = request.params;
      const wish = objectIn(request.body);
      const answer = await ask({ verb: "lease", pool, body: wish, waitMs: waitIn(wish, waitMsMax) });
      if ("bytes" in answer && wish["requestId"] === undefined) {
        const { leaseId } = replyIn<LeaseReply>(answer);
        onHangUp(reply, () => void ask({ verb: "release", pool, body: { leaseId, used: 0 } }).catch(() => {})); // It expires by itself.
      }
      return sendAnswer(reply, answer, 201);
    },
  );

  api.get(
    "/v1/pools/:pool/leases",
    {
      schema: {
        tags,
        summary: "Open leases, by id, without their URLs",
        params: inPool,
        querystring: z.object({
          holder: listShape.holder,
          proxyId: listShape.proxyId,
          after: listShape.after,
          limit: numberInQuery,
        }),
        response: answers({ 200: leases }),
      },
    },
    async (request, reply) =>
      sendAnswer(reply, await ask({ verb: "leases.list", pool: request.params.pool, body: request.query })),
  );

  api.post(
    "/v1/pools/:pool/leases/:id/renew",
    {
      schema: {
        tags,
        summary: "Give a lease a new end",
        params: inPoolById,
        body: renewRequestSchema.omit({ leaseId: true }),
        response: answers({ 200: lease }),
      },
    },
    async (request, reply) => {
      const { pool, id: leaseId } = request.params;
      return sendAnswer(reply, await ask({ verb: "renew", pool, body: { ...objectIn(request.body), leaseId } }));
    },
  );

  api.delete(
    "/v1/pools/:pool/leases/:id",
    {
      schema: {
        tags,
        summary: "Release a lease",
        description: "`used`: how many of its uses were made; all of them where it is left out. The rest return.",
        params: inPoolById,
        querystring: z.object({ used: numberInQuery }),
        response: answers({ 200: released }),
      },
    },
    async (request, reply) => {
      const { pool, id: leaseId } = request.params;
      return sendAnswer(reply, await ask({ verb: "release", pool, body: { leaseId, ...request.query } }));
    },
  );
}

/** Calls back when the client goes, or has gone, before the answer has left for it in full. */
function onHangUp({ raw }: AnyReply, callback: () => void): void {
  if (raw.closed) return callback();
  raw.once("close", () => {
    if (!raw.writableFinished) callback();
  });
}
