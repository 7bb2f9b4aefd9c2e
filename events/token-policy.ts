// The part of a policy about guest tokens: their source, and when they are refreshed.
import { z } from "zod";
import { recordOf } from "./ids.ts";

const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
/** Headers that the connection or the proxy sets. */
const fixedHeaders =
  /^(host|connection|content-length|transfer-encoding|upgrade|te|trailer|keep-alive|expect|proxy-.*)$/i;
const yearMs = 366 * 86_400_000;
const spanMs = z.int().min(1, "must be at least 1 ms");
const urlForm = "must be an http or https URL, without a login in it";
const pattern = z
  .string()
  .max(512)
  .refine(isPattern, "must be a regular expression; the value is its first group, or the whole match");
const pointer = z
  .string()
  .max(512)
  .regex(/^(\/([^~]|~[01])*)?$/, 'must be a JSON pointer, such as "/guest_token"');
const headerSchema = z.string("must be the name of a header").regex(headerName, "must be the name of a header");

/** A place in the answer: exactly one of these, or a header with an expression for its value. */
const places = { jsonPointer: pointer.optional(), header: headerSchema.optional(), regex: pattern.optional() };
const valueForm = 'must be {"jsonPointer": …}, {"header": …}, {"regex": …} or {"header": …, "regex": …}, one of them';
const lifeForm = 'must be null, {"ms": …}, or {"jsonPointer": …}, {"header": …} or {"regex": …} with a "unit"';
const cookieForm =
  'a cookie is more than its value. Select a part of it with a regex, such as {"header": "set-cookie", "regex": "gt=([^;]+)"}';

export const tokenValueSchema = z
  .strictObject(places, { error: wrongForm(valueForm) })
  .refine((value) => isOne(value), valueForm)
  .refine(({ header, regex }) => header?.toLowerCase() !== "set-cookie" || regex !== undefined, cookieForm);
const tokenLifeSchema = z
  .strictObject(
    {
      ms: spanMs.max(yearMs).optional(),
      ...places,
      /** The unit of the value there. Absent: seconds. */
      unit: z.enum(["s", "ms"], 'must be "s" or "ms"').optional(),
    },
    { error: wrongForm(lifeForm) },
  )
  .refine(({ unit, ...life }) => isOne(life) && (unit === undefined || life.ms === undefined), lifeForm);

const sourceFields = {
  method: z.enum(["GET", "POST", "PUT", "PATCH"]).default("POST"),
  url: z
    .url({ protocol: /^https?$/, error: urlForm })
    .max(2048, "must have at most 2048 characters")
    .regex(/^https?:\/\/[^/?#@\s]+([/?#]\S*)?$/i, urlForm),
  headers: recordOf(
    z.string(),
    z
      .string("must be a string")
      .max(8192, "must have at most 8192 characters")
      .regex(/^[\t\x20-\x7e\x80-\xff]*$/, "must be one line, of characters that a header can have"),
  )
    .refine((headers) => Object.keys(headers).length <= 64, "at most 64 headers")
    .superRefine((headers, { addIssue }) => {
      for (const name of Object.keys(headers)) {
        if (!headerName.test(name)) addIssue({ code: "custom", path: [name], message: "is not the name of a header" });
        else if (fixedHeaders.test(name))
          addIssue({ code: "custom", path: [name], message: "is set by the connection itself" });
      }
    })
    .default({}),
  body: z
    .string("must be a string, as it is to be sent, or null")
    .max(16_384, "must have at most 16384 characters")
    .nullable()
    .default(null),
  timeoutMs: z.int().min(1, "must be at least 1 ms").max(120_000).default(10_000),
  value: tokenValueSchema,
  life: tokenLifeSchema.nullable().default(null),
};
const sourceForm = 'must say where tokens come from: {"url": …, "value": …}';
export const tokenSourceSchema = z.strictObject(sourceFields, { error: wrongForm(sourceForm) });
export type TokenSource = z.infer<typeof tokenSourceSchema>;
export type TokenValue = z.infer<typeof tokenValueSchema>;

const pauseMs = z.int().min(0, "must be at least 0 ms").max(yearMs);

/** All numbers of the rules about tokens, with their defaults. */
export const tokenPolicySchema = z.strictObject({
  scope: z.enum(["proxy", "pool"]).default("proxy"),
  minAgeMs: pauseMs.default(120_000),
  refreshAheadMs: pauseMs.default(0),
  /** The time of a refresh, from its grant to its result. Its lease lasts as long. */
  deadlineMs: spanMs.max(300_000).default(15_000),
  /** After the n-th failure in a row: base · 2^(n-1), at most max, plus a random share of that. */
  retry: z
    .strictObject({
      baseMs: spanMs.max(86_400_000).default(1000),
      maxMs: spanMs.max(86_400_000).default(60_000),
      jitterShare: z.number().min(0, "must be from 0 to 1").max(1, "must be from 0 to 1").default(0.2),
    })
    .prefault({}),
  /** After this many failures in a row the token is `unavailable`. */
  unavailableAfter: z.int().min(1, "must be at least 1").max(1000).default(3),
  source: tokenSourceSchema,
});
export type TokenPolicy = z.infer<typeof tokenPolicySchema>;

/** The error message if the value is absent or not an object. */
function wrongForm(form: string): (issue: { code?: string }) => string | undefined {
  return ({ code }) => (code === "invalid_type" ? form : undefined);
}

function isOne(said: Readonly<Record<string, unknown>>): boolean {
  const named = Object.keys(said).filter((name) => said[name] !== undefined);
  return named.length === 1 || named.toSorted().join() === "header,regex";
}

function isPattern(text: string): boolean {
  if (text === "") return false;
  try {
    new RegExp(text, "u");
    return true;
  } catch {
    return false;
  }
}
