// The routes of the verbs, made from the contract's table. A special route has its own file, which the table names. It
// takes its path and its description from here.
import { z } from "zod";
import { contractOf } from "../../protocol/contract.ts";
import { waitMsMax } from "../../protocol/lease.ts";
import type { ChangedReply } from "../../protocol/proxy.ts";
import { refuse } from "../../protocol/refusal.ts";
import { refusalSchema } from "../../protocol/reply.ts";
import { type Route, rolesFor, routeOf, routes, type Verb } from "../../protocol/verbs.ts";
import { type Answer, replyIn, sendAnswer } from "./ask.ts";
import type { Ending } from "./ending.ts";
import { type Api, inPool, queryOf, takeObject, waitIn } from "./request.ts";

export function verbRoutes(api: Api, ending: Ending): void {
  for (const route of routes.filter(({ own }) => own === undefined)) verbRoute(api, route, ending);
}

/** The OpenAPI description of a verb's route, without its request. */
export function described(verb: Verb, ...more: number[]) {
  const { tag = "", summary = "", description, reply } = contractOf(verb);
  const response = answers({ [routeOf(verb).status]: reply }, ...more);
  return { tags: [tag], summary, ...(description === undefined ? {} : { description }), response };
}

function verbRoute(
  api: Api,
  { verb, method, path, named, parameter, status, takesMsMax, fixed }: Route,
  ending: Ending,
): void {
  const { request: schema } = contractOf(verb);
  const elsewhere = Object.fromEntries(
    [...(named === undefined ? [] : [named]), ...Object.keys(fixed)].map((name) => [name, true]),
  );
  const own: z.ZodObject = Object.keys(elsewhere).length === 0 ? schema : schema.omit(elsewhere as object);
  const inQuery = method === "GET" || method === "DELETE";
  const isEmpty = Object.keys(own.shape).length === 0;
  const fields = isEmpty ? {} : inQuery ? { querystring: queryOf(own) } : { body: own };
  api.route({
    method,
    url: path,
    config: { roles: rolesFor(verb) },
    schema: {
      ...described(verb),
      ...(path.includes(":pool") ? { params: paramsOf(schema, parameter) } : {}),
      ...fields,
    },
    // No async function: that would keep the body while the request waits.
    handler(request, reply) {
      const { pool = "", ...params } = (request.params ?? {}) as Record<string, string>; // `params` has these fields.
      const value = parameter === undefined ? undefined : params[parameter];
      const given = isEmpty ? {} : inQuery ? (request.query as object) : takeObject(request);
      const body = {
        ...given,
        ...fixed,
        ...(named === undefined ? {} : { [named]: named === "ids" ? [value] : value }),
      };
      const waitMs = takesMsMax ?? ("waitMs" in schema.shape ? waitIn({ ...body }, waitMsMax) : 0);
      const asking = request.ask({ verb, pool, body, waitMs });
      return (waitMs > 0 ? ending.orRefused(asking) : asking).then((answer) =>
        sendAnswer(reply, named === "ids" ? knownOnly(answer) : answer, status),
      );
    },
  });
}

function paramsOf(request: z.ZodObject, parameter: string | undefined): z.ZodObject {
  if (parameter === undefined) return inPool;
  return inPool.extend({ [parameter]: (request.shape[parameter] as z.ZodType | undefined) ?? z.string() });
}

/** The path names one proxy. An unknown one is a refusal here. */
function knownOnly(answer: Answer): Answer {
  if ("refusal" in answer || replyIn<ChangedReply>(answer).unknown.length === 0) return answer;
  return { refusal: refuse("unknown-proxy", "No proxy of this pool has this id.") };
}

const refusals: Readonly<Record<number, string>> = {
  400: "invalid-request: `field` names the wrong field",
  401: "invalid-request: beyond loopback a key is needed, `Authorization: Bearer <key>`",
  403: "forbidden: the key's role does not allow it; invalid-request: `Host`, `Origin` or `Sec-Fetch-Site` is foreign",
  404: "unknown-pool, or the path names something unknown, or no proxy can ever match",
  413: "too-large",
  429: "pool-exhausted: `limitedBy` counts the proxies that each rule holds back",
  503: "unavailable or overloaded: try again after `retryAfterMs`",
};

/** The answers of a route, with the refusals that any route may give and those named. */
export function answers(good: Record<number, z.ZodType>, ...more: number[]): Record<number, z.ZodType> {
  const numbers = [400, 401, 403, 404, 413, 503, ...more];
  return {
    ...good,
    ...Object.fromEntries(numbers.map((number) => [number, refusalSchema.describe(refusals[number] ?? "")])),
  };
}
