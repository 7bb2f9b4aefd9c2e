// Reads a request. Path and query are validated here. The body is read as JSON, whatever its content type is, and
// validated only by the picker. So there is one validation, one count of refusals, and no loss of fields that a later
// picker knows.
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
import { refuse, requestBytesMax } from "../../protocol/refusal.ts";
import { parseJson, readAs, tooDeep } from "../../protocol/request.ts";
import type { UserRole } from "../../protocol/verbs.ts";
import type { Ask } from "./ask.ts";
import { isDeep, textOf } from "./body.ts";
import { Refused, sendRefusal } from "./refusal.ts";
import type { HttpUser } from "./session.ts";
import { type Upload, Uploads } from "./uploads.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The route reads its body itself. */
    rawBody?: true;
    /** Which roles may use it. Absent: any. */
    roles?: readonly UserRole[];
  }
  interface FastifyRequest {
    /** Its sender. */
    user: HttpUser;
    /** Asks for it. */
    ask: Ask;
    /** The room of its body. */
    upload: Upload;
    /** As it was sent; it may not be a valid media type. */
    contentType: string;
  }
}

/** The size of a proxy list, or of outcomes. Both are sent on in slices. */
export const listBytesMax = 32 * 1024 * 1024;

/** Values that are validated here have their schema's type. Bodies and replies have no type. */
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

/** A number in a query. The picker checks its bounds. */
export const numberInQuery = z
  .string()
  .refine((text) => /^\d{1,15}$/.test(text), "must be a whole number")
  .meta({ type: "integer" })
  .transform(Number)
  .optional();

export const flagInQuery = z
  .enum(["true", "false"])
  .transform((text) => text === "true")
  .optional();

/**
 * A request whose fields come in a query, where all values are text. The picker fills in absent ones, and names unknown
 * ones in its reply.
 */
export function queryOf(request: z.ZodObject): z.ZodObject {
  const fields = Object.entries(request.shape).map(([name, field]) => [name, inQuery(field as z.ZodType)]);
  return z.looseObject(Object.fromEntries(fields) as Record<string, z.ZodType>);
}

function inQuery(field: z.ZodType): z.ZodType {
  if (field instanceof z.ZodOptional || field instanceof z.ZodDefault) return inQuery(field.unwrap() as z.ZodType);
  if (field instanceof z.ZodNumber) return numberInQuery;
  return field instanceof z.ZodBoolean ? flagInQuery : field.optional();
}

/** Fastify's compiler of a part's validator. */
export function validate({ schema, httpPart }: { schema: unknown; httpPart?: string }) {
  return (value: unknown) => {
    if (httpPart === "body") return { value };
    const read = readAs(schema as z.ZodType, value); // Every schema of a route is a Zod schema.
    return "refusal" in read ? { error: new Refused(read.refusal) } : { value: read.value };
  };
}

export function readRequests(api: Api): void {
  const uploads = new Uploads();
  api.decorateRequest("upload");
  api.addHook("onRequest", (request, reply, done) => {
    const bytesMax = request.routeOptions.config?.rawBody === true ? listBytesMax : requestBytesMax;
    const from = { user: request.user?.name, socket: request.raw.socket, answer: reply.raw };
    const begun = uploads.begin(request.raw.headers, { bytesMax, ...from });
    if ("refusal" in begun) {
      // Its body will not be read, so no further request can follow on this connection.
      reply.header("connection", "close");
      sendRefusal(reply, begun.refusal);
      return undefined;
    }
    request.upload = begun;
    return done();
  });
  api.addHook("preHandler", (request, _reply, done) => {
    // Its text has been parsed. Other routes read their bodies themselves.
    if (request.routeOptions.config?.rawBody !== true) request.upload.done();
    done();
  });
  api.decorateRequest("contentType", "");
  api.addHook("onRequest", (request, _reply, done) => {
    // Removed, because Fastify itself refuses an invalid media type ("Content-Type: json").
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
      done(new Refused(noObject)); // Fastify would treat it as an absent body.
    else done(null, read.value);
  });
}

/** The bytes of a route that reads its body itself; empty if there is no body. */
export function bytesOf(body: unknown): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.alloc(0);
}

const noObject = refuse("invalid-request", "The request must be a JSON object with the right fields.");

/**
 * A body to which fields of the path are added must be an object. An empty one counts as `{}`. The request no longer
 * has it afterwards: many may wait for an answer, each for a minute.
 */
export function takeObject(request: { body: unknown }): Record<string, unknown> {
  const value = request.body ?? {};
  request.body = undefined;
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>; // Parsed from JSON.
  throw new Refused(noObject);
}

/** How long the request may wait for its answer, as far as the body tells. The picker validates it. */
export function waitIn(body: Record<string, unknown>, waitMsMax: number): number {
  const { waitMs } = body;
  return typeof waitMs === "number" && waitMs > 0 ? Math.min(waitMs, waitMsMax) : 0;
}
