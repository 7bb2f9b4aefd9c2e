// The parts that replies share: numbers, and the refusal that any reply may be.
import { z } from "zod";
import { whysIgnored } from "../events/outcome.ts";
import { capNames, type LimitedBy, limitNames, type RefusalWord, refusalNumbers } from "../events/refusal.ts";
import type { Refusal } from "./refusal.ts";

export const count = z.int().min(0);
export const instant = z.int().describe("epoch milliseconds");
export const refusalWords = Object.keys(refusalNumbers) as [RefusalWord, ...RefusalWord[]]; // Its own keys.

/** Of the ignored outcomes of one report. `ignoredCount` has their number. */
export const ignoredListedMax = 100;

export const ignoredOutcomeSchema = z.object({
  leaseId: z.string(),
  n: count,
  why: z.enum(whysIgnored),
  field: z.string().exactOptional().describe("the field that is wrong"),
});

export const limitedBySchema = z.object(
  Object.fromEntries(limitNames.map((name) => [name, capNames.includes(name) ? count.exactOptional() : count])),
) as unknown as z.ZodType<LimitedBy>; // Of all names, as the type is.

/**
 * The client needs the type without the schema library. So the type is in refusal.ts, and the compiler compares the
 * two.
 */
export const refusalSchema = z
  .object({
    code: z.enum(refusalWords),
    message: z.string(),
    retryAfterMs: count.exactOptional(),
    field: z.string().exactOptional(),
    limitedBy: limitedBySchema.exactOptional(),
    ignored: z.array(ignoredOutcomeSchema).exactOptional(),
    ignoredCount: count.exactOptional(),
    warnings: z.array(z.string()).exactOptional().describe("unknown fields of the request"),
  })
  .describe("A refusal changes nothing. Retry-After says the same as retryAfterMs, in whole seconds.")
  .meta({ id: "Refusal" }) satisfies z.ZodType<Refusal>;
