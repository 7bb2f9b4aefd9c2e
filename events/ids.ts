// Names and ids as they travel on the wire and stand in the ledger. Ids are strings with a prefix that says what they
// name; their making (HMAC, randomness) is the shell's business, never the core's.
import { z } from "zod";
import { as } from "./field.ts";

/** `[a-z0-9][a-z0-9-]{0,62}` */
export const poolNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "must match [a-z0-9][a-z0-9-]{0,62} (lower-case letters, digits, dashes)");

/** `p_` + 16 characters: HMAC of scheme, host, port, user name and password under the installation's key. */
export const proxyIdSchema = z.string().min(1).max(128);

/**
 * `l_` + at least 20 characters, unguessable: a worker that knows it may report and release. An id of another form is
 * just unknown.
 */
export const leaseIdSchema = z.string().min(1).max(128);

/** 16 to 128 characters, unique over all clients (a UUID). */
export const requestIdSchema = z
  .string()
  .min(16, "must have 16 to 128 characters, unique over all clients (a UUID)")
  .max(128, "must have 16 to 128 characters, unique over all clients (a UUID)");

/** Names that clients choose for sessions and holders: whatever can be read in a log line. */
export const nameSchema = z
  .string()
  .min(1, "must have 1 to 128 characters")
  .max(128, "must have 1 to 128 characters")
  .regex(/^[^\p{Cc}\p{Cs}]*$/u, "must have no control characters");

/** An object with names from outside. `__proto__`, which a copy would lose silently, is refused. */
export function recordOf<Key extends z.core.$ZodRecordKey, Value extends z.core.SomeType>(key: Key, value: Value) {
  const record = z.record(key, value);
  const whole = (given: z.input<typeof record>, context: z.core.$RefinementCtx) => {
    if (typeof given === "object" && given !== null && Object.hasOwn(given, "__proto__"))
      context.addIssue({ code: "custom", path: ["__proto__"], message: "is not a valid name" });
    return given;
  };
  return z.preprocess(whole, record);
}

export const labelsMax = 32;
export const labelsSchema = recordOf(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$/, "a label's name has 1 to 64 letters, digits, _ . : -"),
  z.string().max(256),
).refine((labels) => Object.keys(labels).length <= labelsMax, `at most ${labelsMax} labels`);

export type Labels = Record<string, string>;
/** Of an event. */
export const labelsField = as(labelsSchema, "labels", "Labels");

export const instantSchema = z.int().min(0);
export const durationMsSchema = z.int().min(0);
