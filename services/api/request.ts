// Reading a request. Its path and query are judged here; its body is read as JSON, whatever its content type says, and
// judged by the picker alone: one judge, one count of what was refused, and no field lost that a later picker knows.
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from "fastify";
import { z } from "zod";
import { poolNameSchema } from "../../events/ids.ts";
import { refuse } from "../../protocol/refusal.ts";
import { parseJson, readAs } from "../../protocol/request.ts";
import { isDeep } from "./depth.ts";
import { onHangUp } from "./hang-up.ts";
import { Refused, sendRefusal } from "./refusal.ts";
import { Uploads } from "./uploads.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The route reads its body itself. */
    rawBody?: true;
  }
  interface FastifyRequest {
    /** As it was sent, perhaps no media type at all. */
    contentType: string;
  }
}

/** Of a proxy list, or of outcomes, both of which are sent on in slices. */
export const listBytesMax = 32 * 1024 * 1024;

/** What was judged here has its schema's type; bodies and replies have none. */
interface Types extends FastifyTypeProvider {
  validator: this["schema"] extends z.ZodType ? z.output<this["schema"]> : unknown;
  serializer: unknown;
}

export type Api = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  Types
>;

export const inPool = z.object({ pool: poolNameSchema });

/** A number in a query; its bounds are the picker's to judge. */
export const numberInQuery = z
  .string()
  .refine((text) => /^\d{1,15}$/.test(text), "must be a whole number")
  .meta({ type: "integer" })
  .transform(Number)
  .optional();

const flagInQuery = z
  .enum(["true", "false"])
  .transform((text) => text === "true")
  .optional();

/** A request whose fields come in a query, where all are text; absent ones are the picker's to fill in. */
export function queryOf(request: z.ZodObject): z.ZodObject {
  const fields = Object.entries(request.shape).map(([name, field]) => [name, inQuery(field as z.ZodType)]);
  return z.object(Object.fromEntries(fields) as Record<string, z.ZodType>);
}

function inQuery(field: z.ZodType): z.ZodType {
  if (field instanceof z.ZodOptional || field instanceof z.ZodDefault) return inQuery(field.unwrap() as z.ZodType);
  if (field instanceof z.ZodNumber) return numberInQuery;
  return field instanceof z.ZodBoolean ? flagInQuery : field.optional();
}

export function readRequests(api: Api): void {
  api.setValidatorCompiler(({ schema, httpPart }) => (value: unknown) => {
    if (httpPart === "body") return { value };
    const read = readAs(schema as z.ZodType, value); // Every schema of a route is one.
    return "refusal" in read ? { error: new Refused(read.refusal) } : { value: read.value };
  });
  const uploads = new Uploads();
  api.addHook("onRequest", (request, reply, done) => {
    if (request.routeOptions.config?.rawBody !== true) return done();
    const begun = uploads.begin(request.raw.headers, listBytesMax);
    if ("refusal" in begun) {
      // Its body will not be read, and so nothing can follow it here.
      reply.header("connection", "close");
      sendRefusal(reply, begun.refusal);
      return undefined;
    }
    onHangUp({ socket: request.raw.socket, answer: reply.raw }, begun.done);
    reply.raw.once("finish", begun.done);
    return done();
  });
  api.decorateRequest("contentType", "");
  api.addHook("onRequest", (request, _reply, done) => {
    // Taken away, because Fastify refuses by itself what is no media type ("Content-Type: json").
    request.contentType = request.raw.headers["content-type"] ?? "";
    delete request.raw.headers["content-type"];
    done();
  });
  api.removeAllContentTypeParsers();
  api.addContentTypeParser("*", { parseAs: "buffer" }, (request, bytes: Buffer, done) => {
    if (request.routeOptions.config?.rawBody === true) return done(null, bytes);
    const read = parseJson(textOf(bytes));
    if ("refusal" in read) done(new Refused(read.refusal));
    else if (isDeep(read.value)) done(new Refused(tooDeep));
    else if (read.value === null)
      done(new Refused(noObject)); // To Fastify, and so to the routes, no body at all.
    else done(null, read.value);
  });
}

/** Of a route that reads its body itself; none where there is no body. */
export function bytesOf(body: unknown): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.alloc(0);
}

/** UTF-8, without the mark that some editors put before it. */
export function textOf(bytes: Buffer): string {
  return bytes.toString("utf8").replace(/^\uFEFF/, "");
}

export const tooDeep = refuse("invalid-request", "The body is nested too deeply: no request needs so many levels.");

const noObject = refuse("invalid-request", "The request must be a JSON object with the right fields.");

/** A body that fields of the path are added to must be an object; an empty one is `{}`. */
export function objectIn(body: unknown): Record<string, unknown> {
  const value = body ?? {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>; // Of JSON.
  throw new Refused(noObject);
}

/** How long the request may wait for what it asks, as far as can be told; the picker judges it. */
export function waitIn(body: Record<string, unknown>, waitMsMax: number): number {
  const { waitMs } = body;
  return typeof waitMs === "number" && waitMs > 0 ? Math.min(waitMs, waitMsMax) : 0;
}
