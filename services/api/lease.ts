// Leasing over HTTP. A client that hangs up is gone. Its waiting request is cancelled, so that nothing is granted for
// it. A lease that was granted at the same moment is released, unused. If the client chose the requestId, the lease
// stays until it expires: another copy of the request may have got the same lease.
import { randomUUID } from "node:crypto";
import { type LeaseReply, leaseRequestSchema, waitMsMax } from "../../protocol/lease.ts";
import { rolesFor, routeOf } from "../../protocol/verbs.ts";
import { type Answer, type Ask, type Asked, replyIn, sendAnswer } from "./ask.ts";
import { onHangUp } from "./hang-up.ts";
import { type Api, inPool, takeObject, waitIn } from "./request.ts";
import { described } from "./routes.ts";

export function leaseRoute(api: Api): void {
  api.post(
    routeOf("lease").path,
    {
      config: { roles: rolesFor("lease") },
      schema: { ...described("lease", 429), params: inPool, body: leaseRequestSchema },
    },
    // No async function: that would keep the body while the request waits.
    (request, reply) => {
      const { ask } = request;
      const { pool } = request.params;
      const given = takeObject(request);
      const waitMs = waitIn(given, waitMsMax);
      // A waiting request can be cancelled only by its requestId.
      const isNamed = given["requestId"] !== undefined;
      const body = waitMs > 0 && !isNamed ? { ...given, requestId: randomUUID() } : given;
      const { requestId } = body as { requestId?: unknown };
      let answer: Answer | undefined;
      let isGone = false;
      const giveBack = (): void => {
        if (answer === undefined) quietly(ask, { verb: "cancel", pool, body: { requestId } });
        else if ("bytes" in answer && !isNamed)
          quietly(ask, { verb: "release", pool, body: { leaseId: replyIn<LeaseReply>(answer).leaseId, used: 0 } });
      };
      onHangUp({ socket: request.raw.socket, answer: reply.raw }, () => {
        isGone = true;
        if (answer !== undefined || waitMs > 0) giveBack();
      });
      if (isGone) return reply;
      return ask({ verb: "lease", pool, body, waitMs }).then((given) => {
        answer = given;
        if (isGone) giveBack();
        return sendAnswer(reply, answer, 201);
      });
    },
  );
}

/** For a client that is gone. A lease that cannot be released expires by itself. */
function quietly(ask: Ask, asked: Asked): void {
  ask(asked).catch(() => {});
}
