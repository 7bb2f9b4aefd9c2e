// Error messages for requests that cannot be read. Each field of each request, and of each part of one, gets every kind
// of wrong value. No error message may use the schema library's words, or be too vague to act on.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import * as ids from "../../events/ids.ts";
import * as policy from "../../events/policy.ts";
import * as tokenPolicy from "../../events/token-policy.ts";
import { errorMessageOf } from "../../protocol/error-message.ts";
import * as lease from "../../protocol/lease.ts";
import * as outcome from "../../protocol/outcome.ts";
import * as pool from "../../protocol/pool.ts";
import * as proxy from "../../protocol/proxy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import * as source from "../../protocol/source.ts";
import * as token from "../../protocol/token.ts";

const schemas = [ids, lease, outcome, policy, pool, proxy, source, token, tokenPolicy].flatMap((file) =>
  Object.entries(file).filter((named): named is [string, z.ZodType] => named[1] instanceof z.ZodType),
);
const wrong: readonly unknown[] = [
  undefined,
  null,
  true,
  0,
  -1,
  1.5,
  1e300,
  Number.POSITIVE_INFINITY,
  "",
  "\u0000",
  "x".repeat(20_000),
  [],
  [null],
  [{}],
  {},
  { x: null },
  { kind: "x" },
  { "\n": "x" },
  JSON.parse('{"__proto__": 1}'),
  Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`n${i}`, "x"])),
];
/** The library's own messages, and our fallback for unforeseen cases. */
const theirs = /Invalid|Too (big|small)|Unrecognized|Required|\b(expected|received)\b|zod|NaN|undefined/i;
const empty = /cannot be used$|something else|form that it must have|forms that it may have/;

const tooLong = Array.from({ length: 21_000 }, () => "x");
/** Schemas whose parts were tested already. A schema that occurs in several places gives the same messages in each. */
const entered = new WeakSet<object>();

/** Wrong values for each place of the schema. */
function* wrongs(schema: unknown): Generator<unknown> {
  yield* wrong;
  if (schema instanceof z.ZodArray) yield tooLong;
  if (!(schema instanceof z.ZodType) || entered.has(schema)) return;
  entered.add(schema);
  if (schema instanceof z.ZodObject)
    for (const [name, field] of Object.entries(schema.shape)) for (const each of wrongs(field)) yield { [name]: each };
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    yield* wrongs(schema.unwrap());
  if (schema instanceof z.ZodArray) for (const each of wrongs(schema.element)) yield [each];
  if (schema instanceof z.ZodRecord)
    for (const each of wrongs(schema.valueType)) yield { a: each, "403": each, blocked: each };
  if (schema instanceof z.ZodPipe) yield* wrongs(schema.out);
  if (schema instanceof z.ZodUnion)
    for (const option of schema.options) {
      const kind = option instanceof z.ZodObject ? option.shape["kind"] : undefined;
      const fixed = kind instanceof z.ZodLiteral ? { kind: kind.value } : undefined;
      for (const each of wrongs(option))
        yield fixed !== undefined && typeof each === "object" && !Array.isArray(each) ? { ...fixed, ...each } : each;
    }
}

function* errorMessagesIn(issues: readonly z.core.$ZodIssue[]): Generator<string> {
  for (const issue of issues) {
    yield issue.message;
    if (issue.code === "invalid_union") for (const form of issue.errors) yield* errorMessagesIn(form);
    if (issue.code === "invalid_key") yield* errorMessagesIn(issue.issues);
  }
}

describe.each(schemas)("%s", (_name, schema) => {
  test("says in our own words which field is wrong, and what it must be", () => {
    const errorMessages = new Set<string>();
    const refusals = new Map<string | undefined, Refusal | undefined>();
    for (const value of wrongs(schema)) {
      const parsed = schema.safeParse(value, { error: errorMessageOf });
      if (parsed.success) continue;
      for (const errorMessage of errorMessagesIn(parsed.error.issues)) errorMessages.add(errorMessage);
      const read = readAs(schema, value, ["whole"]);
      const refusal = "refusal" in read ? read.refusal : undefined;
      refusals.set(JSON.stringify(refusal), refusal);
    }
    for (const refusal of refusals.values()) {
      expect(refusal?.message).not.toMatch(theirs);
      expect(refusal?.message).not.toMatch(empty);
      expect(refusal).toMatchObject({ code: "invalid-request", field: expect.stringMatching(/^whole/) });
      expect(refusal?.message).toMatch(
        new RegExp(`^${refusal?.field?.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}: .+\\.$`, "s"),
      );
    }
    expect(errorMessages.size).toBeGreaterThan(0);
    for (const errorMessage of errorMessages) expect(errorMessage).not.toMatch(theirs);
  });
});

test.each([
  [lease.leaseRequestSchema, { uses: null }, "uses: must be a whole number, and is null."],
  [lease.leaseRequestSchema, { uses: 1.5 }, "uses: must be a whole number, and is a number with a fraction."],
  [lease.renewRequestSchema, {}, "leaseId: is missing; it must be a string."],
  [lease.leaseRequestSchema, { schemes: [] }, "schemes: must have at least 1 entry."],
  [lease.leaseRequestSchema, { labels: { a: "x".repeat(257) } }, "labels.a: must have at most 256 characters."],
  [policy.limitsSchema, { rate: 5 }, "rate: must be one of an object, a list, null, and is a number."],
  [policy.limitsSchema, { rate: { limit: 1, windowMs: 1, burst: 2 } }, "rate.burst: is an unknown field."],
  [policy.policySchema.shape.backoff, { kind: "exponential" }, "baseMs: is missing; it must be a whole number."],
  [tokenPolicy.tokenValueSchema, { jsonPointer: "/a", extra: 1 }, "extra: is an unknown field."],
])("%#: gives an error message that the client can act on", (schema, value, message) => {
  expect(readAs(schema, value)).toMatchObject({ refusal: { message } });
});

test.each([
  { kind: "time-based", intervalMs: 120_000 },
  { kind: "bandit", halfLifeMs: 600_000, by: "proxy", slowMs: 60_000 },
])("fills in the defaults of the strategy $kind if only its kind is given", (whole) => {
  expect(readAs(policy.strategySchema, { kind: whole.kind })).toEqual({ value: whole });
});

test("does not repeat a refused value, which may be a secret", () => {
  const read = readAs(proxy.proxyEntrySchema, { url: 5, labels: "hunter2", limits: { rate: "hunter2" } });
  expect(JSON.stringify(read)).not.toContain("hunter2");
});
