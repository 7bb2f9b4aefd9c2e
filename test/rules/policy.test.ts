import { describe, expect, test } from "vitest";
import { defaultPolicy } from "../../events/policy.ts";
import { reasons } from "../../events/words.ts";
import { classify } from "../../state-machines/policy/classify.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { compileRules } from "../../state-machines/rules/limits.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const read = (patch: Record<string, unknown>) => {
  const result = readPolicy(patch);
  return "refusal" in result ? result.refusal : result;
};

describe("a partial document is merged over the present one", () => {
  test("changes nothing if nothing is given, and changes given fields one by one", () => {
    expect(read({})).toEqual({ policy: defaultPolicy, warnings: [] });
    expect(read({ rate: { limit: 20 } })).toMatchObject({
      policy: { rate: { limit: 20, windowMs: 60_000 }, concurrency: 2 },
    });
    expect(read({ classify: { status: { "418": "blocked" } } })).toMatchObject({
      policy: { classify: { status: { "418": "blocked", "403": "blocked" } } },
    });
  });

  test("switches a rule off by null, and on again by one field, with defaults for the others", () => {
    const off = readPolicy({ usage: null, rate: null });
    if ("refusal" in off) throw new Error(off.refusal.message);
    expect(off.policy).toMatchObject({ usage: null, rate: null });
    expect(readPolicy({ usage: { limit: 7 } }, off.policy)).toMatchObject({
      policy: { usage: { limit: 7, restMs: 900_000 } },
    });
  });

  test("replaces lists, and starts another kind from that kind's defaults", () => {
    expect(
      read({
        rate: [
          { limit: 1, windowMs: 1000 },
          { limit: 9, windowMs: 60_000 },
        ],
      }),
    ).toMatchObject({ policy: { rate: [{}, {}] } });
    expect(read({ backoff: { kind: "fixed" } })).toMatchObject({
      policy: { backoff: { kind: "fixed", restMs: 300_000, jitterMs: 0 } },
    });
    expect(read({ backoff: { kind: "none" } })).toMatchObject({ policy: { backoff: { kind: "none" } } });
  });
});

test.each([
  [{ nope: 1 }, "policy.nope"],
  [{ lease: { nope: 1 } }, "policy.lease.nope"],
  [{ rate: { limit: 0 } }, "policy.rate.limit"],
  [{ rate: { windowMs: 0 } }, "policy.rate.windowMs"],
  [{ rate: { limit: 1.5 } }, "policy.rate.limit"],
  [{ rate: { limit: "30" } }, "policy.rate.limit"],
  [{ rate: [] }, "policy.rate"],
  [
    {
      rate: [
        { limit: 1, windowMs: 1000 },
        { limit: 2, windowMs: 1000 },
      ],
    },
    "policy.rate",
  ],
  [{ concurrency: 0 }, "policy.concurrency"],
  [{ lease: { ttlMs: 10_000_000 } }, "policy.lease.ttlMs"],
  [{ backoff: { jitterShare: 1.5 } }, "policy.backoff.jitterShare"],
  [{ backoff: { maxMs: 1 } }, "policy.backoff.maxMs"],
  [{ backoff: { baseMsBy: { nonsense: 1 } } }, "policy.backoff.baseMsBy"],
  [{ backoff: { kind: "linear" } }, "policy.backoff"],
  [{ strategy: { kind: "nonsense" } }, "policy.strategy"],
  [{ countFrom: "never" }, "policy.countFrom"],
  [{ limitBy: "host" }, "policy.limitBy"],
  [{ score: { min: 1 } }, "policy.score.min"],
  [{ outcomes: { blocked: { score: "x" } } }, "policy.outcomes.blocked.score"],
  [{ classify: { status: { abc: "blocked" } } }, "policy.classify.status"],
  [{ classify: { status: { "403": "wrong" } } }, "policy.classify.status.403"],
  [{ token: { scope: "pool" } }, "policy.token"],
  [JSON.parse('{"__proto__": {"x": 1}}'), "policy"],
])("refuses %j, naming %s", (patch, field) => {
  expect(read(patch)).toMatchObject({ code: "invalid-request", field: expect.stringContaining(field) });
});

const nothing = { rest: "none", counts: false };
const second = (limit: number, seconds: number) => ({ limit, windowMs: seconds * 1000 });

test.each<[string, Record<string, unknown>, string]>([
  ["failures that so few uses cannot be", { rate: second(2, 3600) }, "failures: at most 4 uses fit into 300000 ms"],
  ["a window that a stricter one covers", { rate: [second(9, 1), second(5, 2)] }, "rate: window 1 (9 in 1000 ms)"],
  ["a window that another can never fill", { rate: [second(9, 1), second(27, 2)] }, "rate: window 2 (27 in 2000 ms)"],
  ["more leases than the rate has slots", { concurrency: 31 }, "concurrency: the other limits allow at most 30"],
  [
    "more leases than a usage quota has uses",
    { rate: null, concurrency: 501 },
    "concurrency: the other limits allow at most 500",
  ],
  ["fewest uses without a window", { rate: null, strategy: { kind: "least-used" } }, "strategy: with no rate"],
  [
    "failures that nothing counts for",
    { outcomes: Object.fromEntries(reasons.map((reason) => [reason, { counts: false }])) },
    "outcomes: no outcome counts as a failure",
  ],
  [
    "a backoff that nothing calls for",
    { outcomes: Object.fromEntries(reasons.map((reason) => [reason, { rest: "none" }])) },
    "backoff: no class of outcome leads to it",
  ],
  [
    "a base of a class that begins no rest",
    { outcomes: { blocked: nothing } },
    "backoff.baseMsBy.blocked: outcomes.blocked",
  ],
])("accepts, with a warning, that %s can never happen", (_what, patch, warning) => {
  expect(read(patch)).toMatchObject({ warnings: [expect.stringContaining(warning)] });
});

test.each<[string, Record<string, unknown>]>([
  ["the default", {}],
  ["a window that another may fill", { rate: [second(9, 1), second(26, 2)] }],
  ["as many leases as there are slots", { concurrency: 30 }],
  ["more leases than slots that are counted from the grant", { concurrency: 31, countFrom: "grant" }],
  // Uses of a whole hour may be reported within five minutes.
  ["failures of uses that are counted from the grant", { rate: second(2, 3600), countFrom: "grant" }],
  ["a backoff for one class alone", { outcomes: { timeout: nothing } }],
])("gives no warning where %s may happen", (_what, patch) => {
  expect(read(patch)).toMatchObject({ warnings: [] });
});

test.each<[Record<string, unknown>, string]>([
  [{ usage: 5 }, "policy.usage: must be an object or null, and is a number."],
  [{ rate: "30/min" }, "policy.rate: must be one of an object, a list, null, and is a string."],
  [{ concurrency: [] }, "policy.concurrency: must be a number or null, and is a list."],
  [{ concurrency: 1.5 }, "policy.concurrency: must be a whole number or null, and is a number with a fraction."],
  [{ concurrency: 0 }, "policy.concurrency: must be a whole number of at least 1."],
  [{ rate: Array.from({ length: 9 }, (_, i) => second(1 + i, 1 + i)) }, "policy.rate: must have at most 8 entries."],
])("refuses %j and lists the allowed values", (patch, message) => {
  expect(read(patch)).toMatchObject({ code: "invalid-request", message });
});

test("changes nothing for a refused policy, and gives no event for the present one", () => {
  const pool = new TestPool();
  pool.add(proxyLines(1));
  expect(pool.policy({ rate: { limit: 0 } })).toMatchObject({ refusal: { code: "invalid-request" } });
  expect(pool.facts).toEqual([]);
  pool.policy({ rate: { limit: 30 } });
  expect(pool.facts).toEqual([]);
  pool.policy({ rate: { limit: 29 } });
  expect(pool.facts).toMatchObject([{ type: "PolicyChanged", version: 2 }]);
  expect(pool.state.rules.usesMax).toBe(29);
});

test("allows a lease at most the uses of the lowest limit", () => {
  expect(compileRules(defaultPolicy).usesMax).toBe(30);
  expect(compileRules({ ...defaultPolicy, rate: null }).usesMax).toBe(500);
  expect(compileRules({ ...defaultPolicy, rate: null, usage: null }).usesMax).toBe(1000);
});

test.each([
  [{ status: 200 }, "success"],
  [{ status: 302 }, "success"],
  [{ status: 404 }, "success"],
  [{ status: 401 }, "blocked"],
  [{ status: 403 }, "blocked"],
  [{ status: 451 }, "blocked"],
  [{ status: 407 }, "proxy-auth"],
  [{ status: 429 }, "throttled"],
  [{ status: 400 }, "target-error"],
  [{ status: 500 }, "target-error"],
  [{ status: 503 }, "target-error"],
  [{ status: 999 }, "target-error"],
  [{ error: "ECONNREFUSED" }, "unreachable"],
  [{ error: "UND_ERR_CONNECT_TIMEOUT" }, "timeout"],
  [{ error: "ECONNRESET" }, "proxy-error"],
  [{ error: "SOMETHING_NEW" }, "proxy-error"],
  [{ status: 200, error: "ECONNRESET" }, "proxy-error"],
  [{ result: "success", status: 500 }, "success"],
  [{ result: "failure", status: 200 }, "blocked"],
  [{ result: "failure", status: 429 }, "throttled"],
  [{ result: "failure" }, "proxy-error"],
  [{ result: "success", reason: "blocked" }, "blocked"],
  [{ reason: "timeout", status: 200 }, "timeout"],
  [{ status: 401, tokenRejected: true }, "success"],
  [{}, undefined],
] as const)("%j is %s", (seen, expected) => {
  expect(classify(defaultPolicy, seen)).toBe(expected);
});
