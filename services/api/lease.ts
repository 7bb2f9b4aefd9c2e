// Leasing over HTTP. A client that hangs up is gone. Its waiting request is cancelled, so that nothing is granted for
// it. A lease that was granted at the same moment is released, unused. If the client chose the requestId, the lease
// stays until it expires: another copy of the request may have got the same lease.
import { randomBytes } from "node:crypto";
import { type LeaseReply, type LeasesGranted, leaseRequestSchema, waitMsMax } from "../../protocol/lease.ts";
import { rolesFor, routeOf } from "../../protocol/verbs.ts";
import { leasesIn } from "../../protocol/wire.ts";
import { type Answer, type Ask, type Asked, replyIn, sendAnswer } from "./ask.ts";
import type { Ending } from "./ending.ts";
import { onHangUp } from "./hang-up.ts";
import { type Api, inPool, takeObject, waitIn } from "./request.ts";
import { described } from "./routes.ts";

export function leaseRoute(api: Api, ending: Ending): void {
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
      // It is repeated to a new leader, and a waiting request is cancelled, by its requestId.
      const isNamed = given["requestId"] !== undefined;
      const body = isNamed ? given : { ...given, requestId: newRequestId() };
      const { requestId } = body as { requestId?: unknown };
      let answer: Answer | undefined;
      let isGone = false;
      const giveBack = (): void => {
        if (answer === undefined) quietly(ask, { verb: "cancel", pool, body: { requestId } });
        else if ("bytes" in answer && !isNamed)
          for (const { leaseId } of leasesIn(replyIn<LeaseReply | LeasesGranted>(answer)))
            quietly(ask, { verb: "release", pool, body: { leaseId, used: 0 } });
      };
      onHangUp({ socket: request.raw.socket, answer: reply.raw }, () => {
        isGone = true;
        if (answer !== undefined || waitMs > 0) giveBack();
      });
      if (isGone) return reply;
      // A cancelled request is answered.
      const off = waitMs > 0 ? ending.on(giveBack) : () => {};
      return ask({ verb: "lease", pool, body, waitMs })
        .finally(off)
        .then((given) => {
          answer = isNamed || waitMs > 0 || "refusal" in given ? given : without(given, requestId);
          if (isGone) giveBack();
          return sendAnswer(reply, answer, 201);
        });
    },
  );
}

/** The client has not chosen the id, and cannot use it any more. */
function without({ bytes }: { bytes: Buffer }, requestId: unknown): { bytes: Buffer } {
  const isOther = (key: string, value: unknown): unknown =>
    key === "requestId" && value === requestId ? undefined : value;
  return { bytes: Buffer.from(JSON.stringify(JSON.parse(bytes.toString(), isOther))) };
}

/** The shortest that is allowed, because it is recorded with the lease. */
function newRequestId(): string {
  return randomBytes(12).toString("base64url");
}

/** For a client that is gone. A lease that cannot be released expires by itself. */
function quietly(ask: Ask, asked: Asked): void {
  ask(asked).catch(() => {});
}
