// Leases: requests about them, and how they are answered.
import { z } from "zod";
import { type Labels, labelsSchema, leaseIdSchema, nameSchema, proxyIdSchema, requestIdSchema } from "../events/ids.ts";
import { type Scheme, schemes } from "../events/proxy.ts";
import { hostOf, targetCharsMax } from "./target.ts";
import type { TokenReply } from "./token.ts";

export const waitMsMax = 60_000;
export const excludeMax = 1000;

export const leaseRequestSchema = z.object({
  requestId: requestIdSchema.optional(),
  uses: z.int().min(1, "must be at least 1").default(1),
  minUses: z.int().min(1, "must be at least 1").default(1),
  ttlMs: z.int().min(1, "must be at least 1 ms").optional(),
  waitMs: z.int().min(0).max(waitMsMax, `must be at most ${waitMsMax}`).default(0),
  session: nameSchema.optional(),
  labels: labelsSchema.optional(),
  schemes: z.array(z.enum(schemes)).min(1).max(schemes.length).optional(),
  exclude: z.array(proxyIdSchema).max(excludeMax).optional(),
  /** This proxy or none: a wish that does not wait, and has no session. */
  proxyId: proxyIdSchema.optional(),
  holder: nameSchema.optional(),
  token: z.boolean().optional(),
  /** What the uses are for: a URL or host; only the host is kept. The `bandit` may choose by it. */
  target: z
    .string()
    .max(targetCharsMax)
    .refine((target) => hostOf(target) !== undefined, "must be a URL or a host")
    .optional(),
});
export type LeaseRequest = z.infer<typeof leaseRequestSchema>;

export const renewRequestSchema = z.object({ leaseId: leaseIdSchema, ttlMs: z.int().min(1).optional() });
export const releaseRequestSchema = z.object({ leaseId: leaseIdSchema, used: z.int().min(0).optional() });
/** Takes a waiting wish back: nothing is granted for it, unless another copy of it waits, too. */
export const withdrawRequestSchema = z.object({ requestId: requestIdSchema });
export const leasesListRequestSchema = z.object({
  holder: z.string().max(128).optional(),
  proxyId: proxyIdSchema.optional(),
  after: z.string().max(128).optional(),
  limit: z.int().min(1).max(1000).default(100),
});

export interface LeaseReply {
  leaseId: string;
  pool: string;
  proxyId: string;
  /** With the credentials, percent-encoded. */
  url: string;
  scheme: Scheme;
  host: string;
  port: number;
  username?: string;
  password?: string;
  uses: number;
  epoch: number;
  grantedAt: number;
  expiresAt: number;
  /** `expiresAt` minus the picker's clock when the request arrived. */
  leftMs: number;
  labels: Labels;
  session?: string;
  requestId?: string;
  /** Of a wish with `token: true`. */
  token?: Omit<TokenReply, "proxyId">;
}

export interface ReleaseReply {
  leaseId: string;
  used: number;
  returned: number;
}
