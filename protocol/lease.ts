// Requests about leases, and their replies.
import { z } from "zod";
import { labelsSchema, leaseIdSchema, nameSchema, proxyIdSchema, requestIdSchema } from "../events/ids.ts";
import { schemes } from "../events/words.ts";
import { amount } from "./fields.ts";
import { count, instant } from "./reply.ts";
import { hostOf, targetCharsMax } from "./target.ts";

export const waitMsMax = 60_000;
const excludeMax = 1000;
const countMax = 100;

export const leaseRequestSchema = z.object({
  requestId: requestIdSchema.optional(),
  /** So many leases, on different exits: as many as can be had at once. The reply then has a list. */
  count: amount(z.int().min(1, "must be at least 1").max(countMax, `must be at most ${countMax}`)).optional(),
  uses: amount(z.int().min(1, "must be at least 1")).default(1),
  minUses: amount(z.int().min(1, "must be at least 1")).default(1),
  ttlMs: amount(z.int().min(1, "must be at least 1 ms")).optional(),
  waitMs: amount(z.int().min(0).max(waitMsMax, `must be at most ${waitMsMax}`)).default(0),
  session: nameSchema.optional(),
  labels: labelsSchema.optional(),
  schemes: z.array(z.enum(schemes)).min(1).max(schemes.length).optional(),
  exclude: z.array(proxyIdSchema).max(excludeMax).optional(),
  /** Only this proxy is leased. Such a request does not wait, and has no session. */
  proxyId: proxyIdSchema.optional(),
  holder: nameSchema.optional(),
  token: z.boolean().optional(),
  /** The target of the uses: a URL or host; only the host is kept. The `bandit` may choose by it. */
  target: z
    .string()
    .max(targetCharsMax)
    .refine((target) => hostOf(target) !== undefined, "must be a URL or a host")
    .optional(),
});
export type LeaseRequest = z.infer<typeof leaseRequestSchema>;

export const renewRequestSchema = z.object({ leaseId: leaseIdSchema, ttlMs: amount(z.int().min(1)).optional() });
export const releaseRequestSchema = z.object({ leaseId: leaseIdSchema, used: amount(z.int().min(0)).optional() });
/** Cancels a waiting lease request: nothing is granted for it, unless another copy of it waits too. */
export const cancelRequestSchema = z.object({ requestId: requestIdSchema });
export const leasesListRequestSchema = z.object({
  holder: z.string().max(128).optional(),
  proxyId: proxyIdSchema.optional(),
  after: z.string().max(128).optional(),
  limit: amount(z.int().min(1).max(1000)).default(100),
});

/** A guest token, given with a lease. */
export const heldTokenSchema = z.object({
  tokenId: z.string(),
  value: z.string(),
  mintedAt: instant,
  expiresAt: instant.exactOptional(),
});

export const leaseReplySchema = z
  .object({
    leaseId: z.string(),
    pool: z.string(),
    proxyId: z.string(),
    url: z.string().describe("with the credentials, percent-encoded"),
    scheme: z.enum(schemes),
    host: z.string(),
    port: z.int(),
    username: z.string().exactOptional(),
    password: z.string().exactOptional(),
    uses: count,
    epoch: count,
    grantedAt: instant,
    expiresAt: instant,
    /** `expiresAt` minus the picker's clock when the request arrived. */
    leftMs: count.describe("send nothing later than this long after you sent the request, by your own clock"),
    labels: labelsSchema,
    session: z.string().exactOptional(),
    requestId: z.string().exactOptional(),
    token: heldTokenSchema.exactOptional().describe("of a request with token: true"),
  })
  .meta({ id: "Lease" });
export type LeaseReply = z.infer<typeof leaseReplySchema>;

/** To a request with `count`: at least one lease. */
export const leasesGrantedSchema = z.object({ leases: z.array(leaseReplySchema) }).meta({ id: "LeasesGranted" });
export type LeasesGranted = z.infer<typeof leasesGrantedSchema>;

export const leasesReplySchema = z.object({
  leases: z.array(
    leaseReplySchema.omit({ url: true, password: true }).extend({
      leaseId: z.string().exactOptional(),
      username: z.string().exactOptional().describe("masked: its first characters"),
      holder: z.string().exactOptional(),
    }),
  ),
  next: z.string().exactOptional().describe("give it as `after` to get the next page"),
});

export const releaseReplySchema = z.object({ leaseId: z.string(), used: count, returned: count });
export type ReleaseReply = z.infer<typeof releaseReplySchema>;

/** False: nothing waits under this id, perhaps because a lease has been granted. */
export const cancelReplySchema = z.object({ cancelled: z.boolean() });
