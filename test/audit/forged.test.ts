// Ledgers that somebody has had a hand in: the audit names what is wrong, and where. Each is made from a real one, in
// which it finds nothing.
import { beforeAll, describe, expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Finding, Rule } from "../../services/audit/checker/finding.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

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
  expect(report).toMatchObject({ isWell: true, commits: 600, findings: [], decisionsJudged: true });
});

async function findingsIn(commits: readonly Buffer[]): Promise<Finding[]> {
  const report = await verify(sourceOf(commits), {});
  expect(report.isWell).toBe(report.findings.length === 0);
  return report.findings;
}

/** Forges the first fitting event so that the chain holds: only the rules can tell. Its place in the stream comes along. */
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

describe("the document", () => {
  test("a changed byte is found by the next commit, and named with the place of the one that was changed", async () => {
    const changed = ledger.slice();
    const bytes = Buffer.from(changed[299]!);
    const at = bytes.indexOf('"storedAt":') > 0 ? bytes.indexOf('"storedAt":') + 12 : bytes.indexOf('"at":') + 7;
    bytes[at] = bytes[at] === 0x31 ? 0x32 : 0x31;
    changed[299] = bytes;
    const findings = await findingsIn(changed);
    expect(findings.find(({ rule }) => rule === "chain")).toMatchObject({
      n: 300,
      sequence: 600,
      what: expect.stringContaining("commit 301"),
    });
  });

  test("a commit that was deleted is missed at its place", async () => {
    const [first] = await findingsIn(ledger.toSpliced(299, 1));
    expect(first).toMatchObject({ rule: "number", n: 301, what: "commit 301 stands where commit 300 must: 1 missing" });
  });

  test("the first commit is missed too", async () => {
    const [first] = await findingsIn(ledger.slice(1));
    expect(first).toMatchObject({ rule: "number", n: 2, what: "commit 2 stands where commit 1 must: 1 missing" });
  });

  test("a swapped pair is found where it stands", async () => {
    const findings = await findingsIn(ledger.with(299, ledger[300]!).with(300, ledger[299]!));
    expect(findings[0]).toMatchObject({ rule: "number", n: 301, sequence: 600 });
    const second = { rule: "number", n: 300, sequence: 602, afterDamage: true };
    expect(findings).toContainEqual(expect.objectContaining(second));
  });

  test("a forged commit put between two is found at its place", async () => {
    const forged = JSON.parse(ledger[299]!.toString());
    const [first] = await findingsIn(
      ledger.toSpliced(300, 0, Buffer.from(JSON.stringify({ ...forged, n: 301, prev: hashOf(ledger[299]!) }))),
    );
    expect(first).toMatchObject({ n: 301, sequence: 602 });
    expect((await findingsIn(ledger.toSpliced(300, 0, ledger[299]!)))[0]).toMatchObject({
      rule: "number",
      n: 300,
      sequence: 602,
    });
  });

  test("bytes that are no commit are named, and what follows is still read", async () => {
    const findings = await findingsIn(ledger.with(299, Buffer.from("not a commit")));
    expect(findings[0]).toMatchObject({ rule: "unreadable", n: 300, sequence: 600 });
    expect(findings.some(({ rule, n }) => rule === "chain" && n === 300)).toBe(true);
  });

  test("a tail that was cut off shows against a head kept elsewhere, and only against that", async () => {
    const head = { pool: "default", n: 600, hash: hashOf(ledger[599]!) };
    expect(await verify(sourceOf(ledger), { head })).toMatchObject({
      isWell: true,
      headKept: { n: 600, isThere: true },
    });
    const cut = ledger.slice(0, 550);
    expect(await findingsIn(cut)).toEqual([]);
    const report = await verify(sourceOf(cut), { head });
    expect(report.findings).toMatchObject([
      { rule: "tail", n: 550, what: expect.stringContaining("a head of commit 600 was signed") },
    ]);
    expect(report).toMatchObject({ isWell: false, headKept: { isThere: false } });
  });

  test("a history written anew from some commit on shows against a head kept elsewhere", async () => {
    const head = { n: 500, hash: hashOf(ledger[499]!) };
    const { index, place } = findEvent(
      ledger,
      (event) => event["type"] === "UseReported" && event["latencyMs"] !== undefined,
      300,
    );
    const forged = forge(ledger, index, (commit) => Object.assign(commit.events[place] as object, { latencyMs: 1 }));
    expect(await findingsIn(forged)).toEqual([]);
    expect((await verify(sourceOf(forged), { head })).findings).toMatchObject([
      { rule: "head", what: expect.stringContaining("commit 500") },
    ]);
  });

  test.each<[string, Rule, (commit: CommitEnvelope) => void]>([
    ["time goes backwards", "time", (commit) => Object.assign(commit, { at: commit.at - 60_000 })],
    ["the cursor goes backwards", "cursor", (commit) => Object.assign(commit, { cursor: { seq: 0, at: 0 } })],
    ["a term is nobody's", "term", (commit) => Object.assign(commit, { term: 7 })],
    ["an event is of no known type", "unknown-event", (commit) => commit.events.push({ type: "ProxyBlessed" })],
  ])("%s: named at its commit", async (_what, rule, change) => {
    const findings = await findingsIn(forge(ledger, 299, change));
    expect(findings.find((finding) => finding.rule === rule)).toMatchObject({ n: 300, sequence: 600 });
  });

  test("an unknown event that says it is inert is passed over", async () => {
    expect(
      await findingsIn(forge(ledger, 299, (commit) => commit.events.push({ type: "Remark", inert: true }))),
    ).toEqual([]);
  });

  test("another broker's sequences after a crash are a notice, not a finding, where the time goes on", async () => {
    const forged = forge(ledger, 599, (commit) => Object.assign(commit, { cursor: { seq: 1, at: commit.at } }));
    const report = await verify(sourceOf(forged), {});
    expect(report).toMatchObject({ isWell: true, notices: [{ rule: "cursor", n: 600 }] });
  });
});

describe("the decisions", () => {
  const isGrant = (event: Record<string, unknown>): boolean => event["type"] === "LeaseGranted";

  test("grants over the rate", async () => {
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

  test("a lease on a resting proxy", async () => {
    const { index, place } = findEvent(ledger, (event) => event["type"] === "RestBegan", 100);
    const forged = forge(ledger, index, (commit) => {
      const rest = commit.events[place] as { proxyId: string; epoch: number };
      const lease = {
        type: "LeaseGranted",
        leaseId: "l_forged_0000000000000000",
        proxyId: rest.proxyId,
        state: "in-use",
        wish: {},
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

  test("more leases at once than allowed", async () => {
    const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
    const forged = forge(ledger, opened.index, (commit) => {
      (commit.events[opened.place] as { policy: { concurrency: number } }).policy.concurrency = 1;
    });
    expect((await findingsIn(forged))[0]).toMatchObject({
      rule: "concurrency",
      what: expect.stringContaining("2 leases of exit"),
    });
  });

  test("a stint that goes on beyond its limit", async () => {
    const opened = findEvent(ledger, (event) => event["type"] === "PoolOpened");
    const forged = forge(ledger, opened.index, (commit) => {
      (commit.events[opened.place] as { policy: { usage: object } }).policy.usage = { limit: 20, restMs: 5000 };
    });
    expect((await findingsIn(forged))[0]).toMatchObject({ rule: "usage" });
  });

  test("a rest that was left out", async () => {
    const { first, n } = await afterForging(
      (event) => event["type"] === "RestBegan" && String(event["reasons"]) === "backoff",
      (_event, commit, place) =>
        commit.events.splice(place, 1, { type: "OutcomesIgnored", why: "duplicate", count: 1 }),
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
      "a rest for a reason there was not",
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
      "a rest for a stint while a lease is open",
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
    ["more uses than were wished for", "wish", isGrant, (event) => Object.assign(event, { uses: 3 })],
    ["another strategy than the policy's", "wish", isGrant, (event) => Object.assign(event, { strategy: "random" })],
    [
      "a choice by figures that are not so",
      "wish",
      isGrant,
      (event) => Object.assign(event, { ranked: { score: 999 } }),
    ],
    [
      "a proxy that does not match",
      "wish",
      isGrant,
      (event) => Object.assign(event, { wish: { labels: { country: "XX" } } }),
    ],
    [
      "a proxy that was excluded",
      "wish",
      isGrant,
      (event) => Object.assign(event, { wish: { exclude: [event["proxyId"]] } }),
    ],
    ["a proxy that nobody added", "wish", isGrant, (event) => Object.assign(event, { proxyId: "p_0000000000000999" })],
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
      "a refund of what was reported",
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
      "a state that the chart has not",
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
  ])("%s", async (_what, rule, matches, change) => {
    const { all, n } = await afterForging(matches, change);
    expect(all.find((finding) => finding.rule === rule)).toMatchObject({ n, sequence: 2 * n });
    expect(all[0]?.n).toBe(n);
  });

  test("a lease that is left open after its end, while others are granted", async () => {
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

  test("one request that is given two leases", async () => {
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
});
