// The schemes and states of proxies, and the recorded facts about proxies.
import { z } from "zod";
import { as, by, instant, leadsTo } from "./field.ts";
import { labelsField } from "./ids.ts";
import { limitsSchema } from "./policy.ts";
import { type proxyStates, schemes } from "./words.ts";

export type ProxyStateName = (typeof proxyStates)[number];

export const restReasons = ["backoff", "throttle", "failures", "streak", "usage", "manual"] as const;
export type RestReason = (typeof restReasons)[number];

export type Scheme = (typeof schemes)[number];

/** The first characters of a user name, fewer than half of it, and an ellipsis. */
export const maskedNamePattern = /^\P{Cc}{0,3}…$/u;
const maskedName = as(z.string().regex(maskedNamePattern), "masked", "string");
const limits = as(limitsSchema, "limits", "Limits").optional();
const reasons = z.array(z.enum(restReasons));

export const proxyAddedSchema = z.strictObject({
  type: z.literal("ProxyAdded"),
  proxyId: z.string(),
  state: leadsTo("available", "in-use", "cooling", "exhausted").describe(
    "A proxy that was retired keeps its rest and its open leases.",
  ),
  scheme: z.enum(schemes),
  host: z.string(),
  port: as(z.int32().min(1).max(65_535), "port"),
  username: maskedName.optional().describe("Masked: only its first characters. The full user name may be an API key."),
  exit: z.string(),
  labels: labelsField,
  limits,
  until: instant.optional(),
  reasons: reasons.optional(),
  epoch: z.int32(),
  by,
});
export type ProxyAdded = z.infer<typeof proxyAddedSchema>;

export const proxyChangedSchema = z.strictObject({
  type: z.literal("ProxyChanged"),
  proxyId: z.string(),
  exit: z.string(),
  labels: labelsField,
  limits,
  by,
});
export type ProxyChanged = z.infer<typeof proxyChangedSchema>;

export const proxyRetiredSchema = z.strictObject({
  type: z.literal("ProxyRetired"),
  proxyId: z.string(),
  state: leadsTo("retired"),
  reason: z.string().optional(),
  by,
});
export type ProxyRetired = z.infer<typeof proxyRetiredSchema>;

export const restBeganSchema = z.strictObject({
  type: z.literal("RestBegan"),
  proxyId: z.string(),
  state: leadsTo("cooling", "exhausted").describe("`exhausted`: `usage` is among the reasons."),
  until: instant,
  reasons: reasons.describe("All that apply, including those of a rest that this one lengthens."),
  epoch: z.int32().describe("Grows when a rest begins, but not when one is lengthened."),
  exitUntil: instant
    .optional()
    .describe("The exit rests until then, and its quota restarts. Only in the first event of a usage rest."),
  note: z.string().optional().describe("The reason for a manual rest, in the operator's words."),
  by,
});
export type RestBegan = z.infer<typeof restBeganSchema>;

export const restEndedSchema = z.strictObject({
  type: z.literal("RestEnded"),
  proxyId: z.string(),
  state: leadsTo("available", "in-use"),
  how: z.enum(["over", "revived"]),
  by,
});
export type RestEnded = z.infer<typeof restEndedSchema>;
