// Leases over HTTP.
//
// A client that hangs up is gone for good: its waiting wish is withdrawn, so that nothing is granted for it, and a lease
// that was granted at the same moment is released, unused. Unless the wish had a requestId of the client's: then another
// copy of it may have been given the same lease, by this process or another, and so the lease stays, for whoever asks
// again, until it expires.
import { randomUUID } from "node:crypto";
import { z } from "zod";
import {
  type LeaseReply,
  leaseRequestSchema,
  leasesListRequestSchema,
  renewRequestSchema,
  waitMsMax,
} from "../../protocol/lease.ts";
import { type Answer, type Ask, type Asked, replyIn, sendAnswer } from "./ask.ts";
import { onHangUp } from "./hang-up.ts";
import { answers, lease, leases, released, withdrawn } from "./reply.ts";
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
      const waitMs = waitIn(wish, waitMsMax);
      // Only under a requestId can a waiting wish be withdrawn.
      const isNamed = wish["requestId"] !== undefined;
      const body = waitMs > 0 && !isNamed ? { ...wish, requestId: randomUUID() } : wish;
      const { requestId } = body as { requestId?: unknown };
      let answer: Answer | undefined;
      let isGone = false;
      const giveBack = (): void => {
        if (answer === undefined) quietly(ask, { verb: "withdraw", pool, body: { requestId } });
        else if ("bytes" in answer && !isNamed)
          quietly(ask, { verb: "release", pool, body: { leaseId: replyIn<LeaseReply>(answer).leaseId, used: 0 } });
      };
      onHangUp({ socket: request.raw.socket, answer: reply.raw }, () => {
        isGone = true;
        if (answer !== undefined || waitMs > 0) giveBack();
      });
      if (isGone) return reply;
      answer = await ask({ verb: "lease", pool, body, waitMs });
      if (isGone) giveBack();
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

  api.delete(
    "/v1/pools/:pool/wishes/:id",
    {
      schema: {
        tags,
        summary: "Take a waiting wish back, by its requestId",
        description:
          "The request that waits is answered `unavailable`. False: nothing waits under this id, or a lease has been granted.",
        params: inPoolById,
        response: answers({ 200: withdrawn }),
      },
    },
    async (request, reply) => {
      const { pool, id: requestId } = request.params;
      return sendAnswer(reply, await ask({ verb: "withdraw", pool, body: { requestId } }));
    },
  );
}

/** For who is gone: what cannot be given back ends by itself. */
function quietly(ask: Ask, asked: Asked): void {
  ask(asked).catch(() => {});
}
