// Forged decisions: the audit reports what is wrong, and where. Each ledger is made from a real one without findings,
// and its hash chain is valid.
import { beforeAll, expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Finding, Rule } from "../../services/audit/checker/finding.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, findingsIn, forge, makeLedger, sourceOf } from "./ledgers.ts";

let ledger: Buffer[];
const policy = {
  rate: { limit: 6, windowMs: 5000 },
  concurrency: 2,
  usage: { limit: 40, restMs: 5000 },
  backoff: { kind: "exponential", baseMs: 500, maxMs: 3000, jitterMs: 0, jitterShare: 0.2, baseMsBy: {} },
  lease: { ttlMs: 2000, ttlMsMax: 5000, graceMs: 200, usesMax: 10 },
};

beforeAll(async () => {
  ledger = makeLedger(600, { policy, chaos: 0, failures: 20, proxies: 6 });
  const report = await verify(sourceOf(ledger), {});
  expect(report).toMatchObject({ isWell: true, commits: 600, findings: [], decisionsChecked: true });
});

/**
 * Forges the first fitting event and repairs the chain, so that only the rules can tell. Returns its place in the
 * stream too.
 */
async function afterForging(
  matches: (event: Record<string, unknown>) => boolean,
  change: (event: Record<string, unknown>, commit: CommitEnvelope, place: number) => void,
): Promise<{ first: Finding | undefined; all: Finding[]; n: number }> {
  const { index, place } = findEvent(ledger, matches, 100);
  const forged = forge(ledger, index, (commit) =>
    change(commit.events[place] as Record<string, unknown>, commit, place),
  );
  const all = await findingsIn(forged);
  return { first: all[0], all, n: index + 1 };
}

const isGrant = (event: Record<string, unknown>): boolean => event["type"] === "LeaseGranted";

test("finds grants over the rate", async () => {
  // The policy in force allows one use less than was granted.
  const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
  const forged = forge(ledger, opened.index, (commit) => {
    const event = commit.events[opened.place] as { policy: { rate: object } };
    event.policy.rate = { limit: 5, windowMs: 5000 };
  });
  const [first] = await findingsIn(forged);
  expect(first).toMatchObject({
    rule: "rate",
    what: expect.stringMatching(/6 uses of exit 10\.0\.0\.\d within 5000 ms \(limit 5\)/),
  });
  expect(first?.sequence).toBe(2 * (first?.n ?? 0));
  expect(first?.at).toBeGreaterThan(1_700_000_000_000);
});

test("finds a lease on a resting proxy", async () => {
  const { index, place } = findEvent(ledger, (event) => event["type"] === "RestBegan", 100);
  const forged = forge(ledger, index, (commit) => {
    const rest = commit.events[place] as { proxyId: string; epoch: number };
    const lease = {
      type: "LeaseGranted",
      leaseId: "l_forged_0000000000000000",
      proxyId: rest.proxyId,
      state: "in-use",
      request: {},
      uses: 1,
    };
    commit.events.push({ ...lease, epoch: rest.epoch, expiresAt: commit.at + 2000, strategy: "best", ranked: {} });
  });
  expect((await findingsIn(forged))[0]).toMatchObject({
    rule: "rest",
    n: index + 1,
    sequence: 2 * (index + 1),
    what: expect.stringContaining("l_forged_0000000000000000 is granted on"),
  });
});

test("finds more concurrent leases than allowed", async () => {
  const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
  const forged = forge(ledger, opened.index, (commit) => {
    (commit.events[opened.place] as { policy: { concurrency: number } }).policy.concurrency = 1;
  });
  expect((await findingsIn(forged))[0]).toMatchObject({
    rule: "concurrency",
    what: expect.stringContaining("2 leases of exit"),
  });
});

test("finds a usage quota that goes on beyond its limit", async () => {
  const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
  const forged = forge(ledger, opened.index, (commit) => {
    (commit.events[opened.place] as { policy: { usage: object } }).policy.usage = { limit: 20, restMs: 5000 };
  });
  expect((await findingsIn(forged))[0]).toMatchObject({ rule: "usage" });
});

test("finds a lease of an exit that has reported too many bytes", async () => {
  const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
  const capped = forge(ledger, opened.index, (commit) => {
    (commit.events[opened.place] as { policy: { bytes: object } }).policy.bytes = { limit: 1000, windowMs: 86_400_000 };
  });
  const reported = findEvent(capped, (event) => event["type"] === "UseReported");
  const forged = forge(capped, reported.index, (commit) => {
    (commit.events[reported.place] as { bytes?: number }).bytes = 1000;
  });
  expect((await findingsIn(forged))[0]).toMatchObject({
    rule: "bytes",
    what: expect.stringContaining("at its limit of bytes"),
  });
});

test("finds a rest that was left out", async () => {
  const { first, n } = await afterForging(
    (event) => event["type"] === "RestBegan" && String(event["reasons"]) === "backoff",
    (_event, commit, place) => commit.events.splice(place, 1, { type: "OutcomesIgnored", why: "duplicate", count: 1 }),
  );
  expect(first).toMatchObject({
    rule: "rest",
    n,
    what: expect.stringContaining("must rest for backoff, and does not"),
  });
});

test.each<
  [
    string,
    Rule,
    (event: Record<string, unknown>) => boolean,
    (event: Record<string, unknown>, commit: CommitEnvelope) => void,
  ]
>([
  [
    "a rest that is too short",
    "rest",
    (event) => event["type"] === "RestBegan",
    (event, commit) => Object.assign(event, { until: commit.at + 1 }),
  ],
  [
    "a rest beyond the jitter",
    "rest",
    (event) => event["type"] === "RestBegan" && String(event["reasons"]) === "backoff",
    (event) => Object.assign(event, { until: Number(event["until"]) + 200_000 }),
  ],
  [
    "a rest for a wrong reason",
    "rest",
    (event) => event["type"] === "RestBegan",
    (event) => Object.assign(event, { reasons: ["streak"] }),
  ],
  [
    "an epoch that does not grow",
    "epoch",
    (event) => event["type"] === "RestBegan",
    (event) => Object.assign(event, { epoch: Number(event["epoch"]) - 1 }),
  ],
  [
    "a rest for a usage quota while a lease is open",
    "usage",
    (event) => event["type"] === "LeaseGranted",
    (event, commit) =>
      commit.events.push({
        type: "RestBegan",
        proxyId: event["proxyId"],
        state: "exhausted",
        until: commit.at + 5000,
        reasons: ["usage"],
        epoch: Number(event["epoch"]) + 1,
        exitUntil: commit.at + 5000,
      }),
  ],
  [
    "a rest that is over too soon",
    "rest",
    (event) => event["type"] === "RestBegan",
    (event, commit) =>
      commit.events.push({ type: "RestEnded", proxyId: event["proxyId"], state: "available", how: "over" }),
  ],
  ["a lease of another epoch", "epoch", isGrant, (event) => Object.assign(event, { epoch: 77 })],
  [
    "a lease that lasts too long",
    "expiry",
    isGrant,
    (event) => Object.assign(event, { expiresAt: Number(event["expiresAt"]) + 1 }),
  ],
  ["more uses than were requested", "request", isGrant, (event) => Object.assign(event, { uses: 3 })],
  ["a strategy that is not the policy's", "request", isGrant, (event) => Object.assign(event, { strategy: "random" })],
  ["a choice by wrong figures", "request", isGrant, (event) => Object.assign(event, { ranked: { score: 999 } })],
  [
    "a proxy that does not match",
    "request",
    isGrant,
    (event) => Object.assign(event, { request: { labels: { country: "XX" } } }),
  ],
  [
    "a proxy that was excluded",
    "request",
    isGrant,
    (event) => Object.assign(event, { request: { exclude: [event["proxyId"]] } }),
  ],
  [
    "a proxy that was never added",
    "request",
    isGrant,
    (event) => Object.assign(event, { proxyId: "p_0000000000000999" }),
  ],
  ["slots that run from the grant", "slot", isGrant, (event, commit) => Object.assign(event, { slotAt: commit.at })],
  [
    "a score from nowhere",
    "score",
    (event) => event["type"] === "UseReported",
    (event) => Object.assign(event, { score: 55 }),
  ],
  [
    "a streak from nowhere",
    "streak",
    (event) => event["type"] === "UseReported",
    (event) => Object.assign(event, { streak: 55 }),
  ],
  [
    "a slot that ends too soon",
    "slot",
    (event) => event["type"] === "UseReported",
    (event) => Object.assign(event, { slotAt: Number(event["slotAt"]) - 1000 }),
  ],
  [
    "a failure that is called neutral",
    "outcome",
    (event) => event["result"] === "failure",
    (event) => Object.assign(event, { result: "neutral" }),
  ],
  [
    "a use that is reported twice",
    "outcome",
    (event) => event["type"] === "UseReported",
    (event, commit) => commit.events.push({ ...event }),
  ],
  [
    "a lease that is closed twice",
    "closing",
    (event) => event["type"] === "LeaseClosed",
    (event, commit) => commit.events.push({ ...event }),
  ],
  [
    "a return of a reported use",
    "closing",
    (event) => event["how"] === "completed",
    (event) => Object.assign(event, { used: 0 }),
  ],
  [
    "an end before its time",
    "closing",
    (event) => event["how"] === "completed",
    (event) => Object.assign(event, { how: "expired" }),
  ],
  [
    "a state that the chart does not have",
    "chart",
    (event) => event["type"] === "LeaseClosed" && event["state"] === "available",
    (event) => Object.assign(event, { state: "retired" }),
  ],
  [
    "a policy out of turn",
    "policy",
    isGrant,
    (_event, commit) =>
      commit.events.push({
        type: "PolicyChanged",
        version: 9,
        policy: (JSON.parse(ledger[0]!.toString()) as { events: { policy?: object }[] }).events[1]?.policy,
      }),
  ],
  [
    "an exit that the address does not have",
    "proxy",
    isGrant,
    (_event, commit) =>
      commit.events.push({
        type: "ProxyAdded",
        proxyId: "p_new",
        state: "available",
        scheme: "http",
        host: "192.0.2.9",
        port: 80,
        exit: "192.0.2.1",
        labels: {},
        epoch: 0,
      }),
  ],
])("finds %s", async (_what, rule, matches, change) => {
  const { all, n } = await afterForging(matches, change);
  expect(all.find((finding) => finding.rule === rule)).toMatchObject({ n, sequence: 2 * n });
  expect(all[0]?.n).toBe(n);
});

test("finds a lease that is left open after its end, while others are granted", async () => {
  const dying = makeLedger(800, { policy, chaos: 1, failures: 0, proxies: 6 });
  expect(await findingsIn(dying)).toEqual([]);
  const { index, place } = findEvent(dying, (event) => event["how"] === "expired", 100);
  const findings = await findingsIn(
    forge(dying, index, (commit) =>
      commit.events.splice(place, 1, { type: "OutcomesIgnored", why: "duplicate", count: 1 }),
    ),
  );
  expect(findings.find(({ rule }) => rule === "expiry")?.what).toContain("is still open after its end");
});

test("finds one request that gets two leases", async () => {
  const { index, place } = findEvent(ledger, isGrant, 100);
  const findings = await findingsIn(
    forge(ledger, index, (commit) => {
      commit.events.push({ ...(commit.events[place] as object), leaseId: "l_forged_0000000000000000" });
    }),
  );
  expect(findings.find(({ rule }) => rule === "request")).toMatchObject({
    n: index + 1,
    what: expect.stringContaining("are both open for the request"),
  });
});
