import { describe, expect, test } from "vitest";
import { defaultPolicy } from "../../events/policy.ts";
import { classify, compileRules, readPolicy } from "../../state-machines/policy.ts";
import { herd, TestPool } from "../kit/pool.ts";

const read = (patch: Record<string, unknown>) => {
  const result = readPolicy(patch);
  return "refusal" in result ? result.refusal : result;
};

describe("a partial document is merged over the present one", () => {
  test("nothing given changes nothing; what is given is changed field by field", () => {
    expect(read({})).toEqual({ policy: defaultPolicy, warnings: [] });
    expect(read({ rate: { limit: 20 } })).toMatchObject({
      policy: { rate: { limit: 20, windowMs: 60_000 }, concurrency: 2 },
    });
    expect(read({ classify: { status: { "418": "blocked" } } })).toMatchObject({
      policy: { classify: { status: { "418": "blocked", "403": "blocked" } } },
    });
  });

  test("null switches a rule off, and a part of it on again with the defaults of the rest", () => {
    const off = readPolicy({ usage: null, rate: null });
    if ("refusal" in off) throw new Error(off.refusal.message);
    expect(off.policy).toMatchObject({ usage: null, rate: null });
    expect(readPolicy({ usage: { limit: 7 } }, off.policy)).toMatchObject({
      policy: { usage: { limit: 7, restMs: 900_000 } },
    });
  });

  test("a list replaces; another kind begins with that kind's defaults", () => {
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
])("%j is refused, naming %s", (patch, field) => {
  expect(read(patch)).toMatchObject({ code: "invalid-request", field: expect.stringContaining(field) });
});

test("a rule that can never fire is accepted with a warning", () => {
  expect(read({ rate: { limit: 1, windowMs: 3_600_000 } })).toMatchObject({
    warnings: [expect.stringContaining("failures")],
  });
  expect(
    read({
      rate: [
        { limit: 9, windowMs: 1000 },
        { limit: 5, windowMs: 2000 },
      ],
      failures: null,
    }),
  ).toMatchObject({
    warnings: [expect.stringContaining("rate: window 1")],
  });
});

test("a policy that is refused changes nothing, and one that holds already gives no event", () => {
  const pool = new TestPool();
  pool.add(herd(1));
  expect(pool.policy({ rate: { limit: 0 } })).toMatchObject({ refusal: { code: "invalid-request" } });
  expect(pool.facts).toEqual([]);
  pool.policy({ rate: { limit: 30 } });
  expect(pool.facts).toEqual([]);
  pool.policy({ rate: { limit: 29 } });
  expect(pool.facts).toMatchObject([{ type: "PolicyChanged", version: 2 }]);
  expect(pool.state.rules.usesMax).toBe(29);
});

test("the most uses a lease could ever have is the least of all limits", () => {
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
