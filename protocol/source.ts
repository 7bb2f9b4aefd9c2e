// Sources: the origins of a pool's proxies. They are configured in one file, or by requests. This file has the shapes
// of both, and of a source's status.
import { z } from "zod";
import { labelsSchema, poolNameSchema, recordOf } from "../events/ids.ts";
import { listSchemeSchema } from "./proxy.ts";
import { count, instant } from "./reply.ts";

const urlSchema = z.url({ protocol: /^https?$/, error: "must be an http:// or https:// URL" }).max(4096);
const timeoutSchema = z.int().min(100).max(600_000);

const sourceNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, "must be 1 to 32 of a-z, 0-9 and -, and not begin with -");

/** Headers that the HTTP implementation sets. They cannot be configured. */
const ownHeaders = ["connection", "content-length", "expect", "keep-alive", "transfer-encoding", "upgrade"];

/** Names are validated first and never shown: a misplaced value may be a secret. */
const headersSchema = z.preprocess(
  (given, context) => {
    for (const name of Object.keys(typeof given === "object" && given !== null ? given : {})) {
      const own = ownHeaders.find((each) => each === name.toLowerCase());
      if (own !== undefined)
        context.addIssue({ code: "custom", message: `has ${own}, which the HTTP client sets itself` });
      if (!/^[!#$%&'*+.^_`|~\w-]{1,128}$/.test(name))
        context.addIssue({ code: "custom", message: 'has a name that is not a header name; write {"name": "value"}' });
    }
    return given;
  },
  recordOf(
    z.string().max(128),
    z
      .string()
      .max(4096)
      .regex(/^[\t\x20-\x7e\x80-\xff]*$/, "must be one line of Latin-1 characters"),
  ),
);

const fromUrl = {
  kind: z.literal("url"),
  url: urlSchema,
  headers: headersSchema.default({}),
  timeoutMs: timeoutSchema.default(30_000),
};
const fromPool = { kind: z.literal("pool"), pool: poolNameSchema, labels: labelsSchema.optional() };
const fromFile = z.strictObject({ kind: z.literal("file"), path: z.string().min(1).max(4096) });
const fromCommand = z.strictObject({
  kind: z.literal("command"),
  /** The program and its arguments; no shell reads them. */
  command: z.array(z.string().max(4096)).min(1).max(64),
  timeoutMs: timeoutSchema.default(60_000),
});

const common = {
  name: sourceNameSchema,
  everyMs: z.int().min(1000, "must be at least 1000 ms").max(86_400_000).default(300_000),
  /** Labels of every proxy from this source, unless the list says otherwise. */
  labels: labelsSchema.default({}),
  scheme: listSchemeSchema.optional(),
  /** Retires proxies that the source no longer lists. */
  retire: z.boolean().default(false),
};
/** When fewer than `leasableMin` proxies could be leased now, the source is read at once, and the webhook is called. */
const refill = {
  leasableMin: z.int().min(1),
  everyMsMin: z.int().min(1000).max(86_400_000).default(60_000),
  webhook: urlSchema.optional(),
};
/** Tries unused proxies, at most this many a minute: one request through each, which counts as a use. */
const probe = {
  url: urlSchema,
  perMinute: z.int().min(1, "must be at least 1").max(6000, "must be at most 6000"),
  timeoutMs: z.int().min(100).max(60_000, "must be at most 60000 ms").default(10_000),
  /** Another status means that the answer is not the target's. Absent: the pool's policy classifies the status. */
  expectStatus: z.int().min(200).max(599).optional(),
};

/**
 * A source configured by request. It has no field that would let the sender read files or run programs here. Unknown
 * fields are ignored, and named in the reply.
 */
export const sourceRequestSchema = z.object({
  ...common,
  refill: z.object(refill).optional(),
  probe: z.object(probe).optional(),
  from: z.discriminatedUnion("kind", [z.object(fromUrl), z.object(fromPool)], {
    error: 'must be of kind "url" or "pool"; "file" and "command" can only be set in the file',
  }),
});
/** In the file an unknown field is an error, because its operator is there to correct it. */
export const sourceSchema = z.strictObject({
  ...common,
  refill: z.strictObject(refill).optional(),
  probe: z.strictObject(probe).optional(),
  pool: poolNameSchema.default("default"),
  from: z.discriminatedUnion("kind", [z.strictObject(fromUrl), z.strictObject(fromPool), fromFile, fromCommand]),
});
export type Source = z.infer<typeof sourceSchema>;

export const sourcesFileSchema = z.strictObject({ sources: z.array(sourceSchema).max(1000) });

export const sourceNameRequestSchema = z.object({ name: sourceNameSchema });

/** The status of a source. Never a URL's query, a header or an argument, because these may be secret. */
export const sourceReplySchema = z
  .object({
    name: z.string(),
    pool: z.string(),
    kind: z.enum(["url", "pool", "file", "command"]),
    everyMs: count,
    retire: z.boolean(),
    proxies: count.describe("how many it listed when a reading was last accepted"),
    /** The result of the last successful reading. */
    last: z
      .object({ at: instant, read: count, added: count, updated: count, rejected: count, retired: count })
      .exactOptional(),
    /** Why the last attempt failed, and since when attempts have failed. */
    trouble: z.object({ since: instant, why: z.string() }).exactOptional(),
    /**
     * It listed less than half of its previous proxies. None is retired unless it lists the same again after this time.
     */
    doubtedUntil: instant.exactOptional(),
    nextAt: instant.exactOptional(),
    /** For a source that probes: the results since this process began to follow it. */
    probes: z.object({ succeeded: count, failed: count, neutral: count }).exactOptional(),
  })
  .meta({ id: "Source" });
export type SourceReply = z.infer<typeof sourceReplySchema>;

export const sourcesReplySchema = z.object({ sources: z.array(sourceReplySchema) });
export const sourceRemovedReplySchema = z.object({ removed: z.string() });
