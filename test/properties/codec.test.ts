// Round trips: commits with any text and with numbers at their bounds, and policies, are read as they were written.
import fc from "fast-check";
import { expect, test } from "vitest";
import { type CommitEnvelope, decodeCommit, encodeCommit } from "../../events/commit.ts";
import { outcomeClasses } from "../../events/outcome.ts";
import { defaultPolicy, type Policy } from "../../events/policy.ts";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { readAs } from "../../protocol/request.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { seeded } from "../kit/seed.ts";
import { drawChange, drawPhysics, drawPolicy } from "../sim/setting.ts";

const whole = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 1, Number.MAX_SAFE_INTEGER));
const instant = fc.integer({ min: 0, max: 8_640_000_000_000_000 });
const event = fc.record({ type: fc.string(), at: whole, any: fc.jsonValue() });
const head = fc.record(
  {
    n: whole,
    prev: fc.string(),
    term: whole,
    at: instant,
    cursor: fc.record({ seq: whole, at: instant, taken: whole }, { requiredKeys: ["seq", "at"] }),
    chance: fc.stringMatching(/^[0-9a-f]{32}$/),
  },
  { requiredKeys: ["n", "prev", "term", "at", "cursor"] },
);
const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

test("reads a commit as it was written, whatever its events contain", () => {
  fc.assert(
    fc.property(head, fc.array(event, { maxLength: 10 }), (given, events) => {
      const text = encodeCommit(
        given as Omit<CommitEnvelope, "events" | "v">,
        events.map((each) => JSON.stringify(each)),
      );
      expect(decodeCommit(text)).toEqual(json({ v: 2, ...given, events }));
      // The hash chain is over bytes, so reading and writing again must give the same text.
      const { v: _v, events: again, ...same } = decodeCommit(text);
      const rewritten = encodeCommit(
        same,
        again.map((each) => JSON.stringify(each)),
      );
      expect(rewritten).toBe(text);
    }),
  );
});

test("rejects a commit with a field of the wrong form", () => {
  const good = { v: 2, n: 1, prev: "", term: 1, at: 1, cursor: { seq: 0, at: 0 }, events: [] };
  expect(decodeCommit(JSON.stringify({ ...good, unknown: 7 }))).toMatchObject(good);
  const notWhole = fc.oneof(fc.constantFrom(null, "1", 1.5, 2 ** 53, true), fc.array(fc.nat()));
  fc.assert(
    fc.property(fc.constantFrom("v", "n", "term", "at"), notWhole, (field, value) => {
      expect(() => decodeCommit(JSON.stringify({ ...good, [field]: value }))).toThrow();
    }),
  );
});

test("accepts an accepted policy again as it is stored, with the same meaning", () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer(), (first, second) => {
      const chance = seeded(first);
      const physics = drawPhysics(chance);
      const policy = accepted(readPolicy(drawPolicy(chance, physics)));
      expect(accepted(readPolicy(json(policy) as Record<string, unknown>, defaultPolicy))).toEqual(policy);
      // Merging it over itself, or merging nothing over it, changes nothing.
      expect(accepted(readPolicy({}, policy))).toEqual(policy);
      const changed = accepted(readPolicy(drawChange(seeded(second), physics), policy));
      expect(accepted(readPolicy(json(changed) as Record<string, unknown>, policy))).toEqual(changed);
    }),
  );
});

test("refuses a policy with an unknown field, and names the field", () => {
  const strange = fc.stringMatching(/^[a-z]{3,12}$/).filter((name) => !(name in defaultPolicy));
  fc.assert(
    fc.property(strange, fc.jsonValue(), (field, value) => {
      const read = readPolicy({ [field]: value });
      expect("refusal" in read && read.refusal.message).toContain(field);
    }),
  );
});

test("reads requests the same a second time, without their unknown fields", () => {
  const request = fc.record(
    {
      requestId: fc.string({ minLength: 16, maxLength: 128 }),
      uses: fc.constantFrom(1, 2, Number.MAX_SAFE_INTEGER),
      waitMs: fc.integer({ min: 0, max: 60_000 }),
      labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string({ maxLength: 256 }), { maxKeys: 4 }),
      holder: fc.string({ minLength: 1, maxLength: 128 }),
      unknown: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  const outcome = fc.record(
    {
      leaseId: fc.string({ minLength: 1, maxLength: 128 }),
      n: fc.constantFrom(1, Number.MAX_SAFE_INTEGER),
      reason: fc.constantFrom(...outcomeClasses.filter((each) => each !== "success")),
      status: fc.integer({ min: 100, max: 999 }),
      bytes: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
      unknown: fc.jsonValue(),
    },
    { requiredKeys: ["leaseId"] },
  );
  fc.assert(
    fc.property(request, outcome, (requested, reported) => {
      for (const [schema, body] of [
        [leaseRequestSchema, requested],
        [outcomeSchema, reported],
      ] as const) {
        const once = readAs(schema, body);
        if ("refusal" in once) throw new Error(once.refusal.message);
        expect(once.value).not.toHaveProperty("unknown");
        expect(readAs(schema, json(once.value))).toEqual({ value: once.value });
      }
    }),
  );
});

function accepted(read: ReturnType<typeof readPolicy>): Policy {
  if ("refusal" in read) throw new Error(read.refusal.message);
  return read.policy;
}
