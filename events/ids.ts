// Names and ids on the wire and in the ledger. An id is a string with a prefix that shows its kind. The shell makes ids
// (HMAC, randomness), never the core.
import { z } from "zod";
import { as } from "./field.ts";
import { poolNamePattern } from "./words.ts";

/** Texts from outside are printed to terminals and logs. */
export const printable = /^[^\p{Cc}\p{Cs}]*$/u;
export const unprintable = "must have no control characters";

export const poolNameSchema = z
  .string()
  .regex(poolNamePattern, "must match [a-z0-9][a-z0-9-]{0,62} (lower-case letters, digits, dashes)");

/** `p_` + 16 characters: HMAC of scheme, host, port, user name and password under the installation's key. */
export const proxyIdSchema = z.string().min(1).max(128);

/** `l_` + at least 20 characters, unguessable: the id is the right to report and to release. */
export const leaseIdSchema = z.string().min(1).max(128);

const requestIdForm = "must have 16 to 128 characters, unique over all clients (a UUID)";
export const requestIdSchema = z.string().min(16, requestIdForm).max(128, requestIdForm).regex(printable, unprintable);

/** Names that clients choose for sessions and holders. They may appear in log lines. */
export const nameSchema = z
  .string()
  .min(1, "must have 1 to 128 characters")
  .max(128, "must have 1 to 128 characters")
  .regex(printable, unprintable);

/** An object with names from outside. Rejects `__proto__`, which a copy would silently lose. */
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
  z.string().max(256).regex(printable, unprintable),
).refine((labels) => Object.keys(labels).length <= labelsMax, `at most ${labelsMax} labels`);

export type Labels = Record<string, string>;
/** The labels in an event. */
export const labelsField = as(labelsSchema, "labels", "Labels");
