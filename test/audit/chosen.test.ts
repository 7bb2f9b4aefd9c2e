// The choice of a proxy, its recorded figures and random draws: forged ones are found, whatever the strategy.
import { describe, expect, test } from "vitest";
import { type CommitEnvelope, decodeCommit } from "../../events/commit.ts";
import { drawn } from "../../services/audit/checker/chance.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { drawFor } from "../../state-machines/decide/chance.ts";
import { seeded } from "../kit/seed.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";
import { Script } from "./scripted.ts";

type Change = (event: Record<string, unknown>, commit: CommitEnvelope) => void;

const isGrant = (event: Record<string, unknown>): boolean => event["type"] === "LeaseGranted";
const figuresOf = (event: Record<string, unknown>) => event["ranked"] as Record<string, number>;

async function foundIn(ledger: Buffer[], matches: (event: Record<string, unknown>) => boolean, change: Change) {
  const { index, place } = findEvent(ledger, matches, 60);
  const forged = forge(ledger, index, (commit) => change(commit.events[place] as Record<string, unknown>, commit));
  const { findings } = await verify(sourceOf(forged), {});
  return findings.filter(({ n }) => n === index + 1).map(({ rule, what }) => `${rule}: ${what}`);
}

describe("the figures of a candidate", () => {
  test.each([
    ["best", "granted"],
    ["best", "score"],
    ["best", "lastUsedAt"],
    ["lifo", "order"],
    ["round-robin", "lastUsedAt"],
    ["least-used", "usesInWindow"],
    ["least-connections", "openLeases"],
    ["least-connections", "openLeasesOwn"],
    ["drain", "order"],
    ["time-based", "intervalAt"],
  ])("%s: finds %s that is wrong or missing", async (kind, name) => {
    const strategy = kind === "time-based" ? { kind, intervalMs: 2000 } : { kind };
    const ledger = makeLedger(120, { policy: { strategy }, chaos: 0, proxies: 5 });
    expect((await verify(sourceOf(ledger), {})).findings).toEqual([]);
    const wrong = await foundIn(ledger, isGrant, (event) => figuresOf(event)[name]!++);
    expect(wrong[0]).toMatch(
      new RegExp(`^request: .* was ranked by figures that p_\\d+ did not have: ${name} was \\d+, not \\d+$`),
    );
    const less = await foundIn(ledger, isGrant, (event) => delete figuresOf(event)[name]);
    expect(less[0]).toMatch(new RegExp(`${name} was \\d+, not left out$`));
  });
});

const inOrder = ["best", "lifo", "round-robin", "least-used", "least-connections", "drain"].map((kind) => ({ kind }));

test.each([...inOrder, { kind: "time-based", intervalMs: 60_000 }])(
  "$kind: finds a grant of a proxy that comes after another one that could have been leased",
  async (strategy) => {
    const grantOf = (exclude: string[]): { commits: Buffer[]; proxyId: string } => {
      const script = new Script("2026-03-01T10:00:00Z", { strategy, rate: { limit: 2, windowMs: 60_000 } }, 3);
      script.release(script.lease());
      script.report(script.lease(), { status: 200 });
      script.pass(70_000);
      script.lease();
      script.lease({ exclude });
      const { proxyId } = decodeCommit(script.commits.at(-1)!.toString()).events[0] as { proxyId: string };
      return { commits: script.commits, proxyId };
    };
    const due = grantOf([]);
    expect((await verify(sourceOf(due.commits), {})).findings).toEqual([]);
    const { commits, proxyId } = grantOf([due.proxyId]);
    const forged = forge(commits, commits.length - 1, ({ events }) => {
      delete (events[0] as { request: { exclude?: unknown } }).request.exclude;
    });
    const { findings } = await verify(sourceOf(forged), {});
    expect(findings.map(({ what }) => what)).toEqual([
      expect.stringMatching(new RegExp(`is of ${proxyId}, and ${due.proxyId} comes before it by the strategy$`)),
    ]);
  },
);

test("time-based: counts the intervals again from the moment at which a pool that was closing is opened again", async () => {
  const strategy = { kind: "time-based", intervalMs: 1000 };
  const script = new Script("2026-03-01T10:00:00Z", { strategy }, 2);
  script.lease();
  script.do({ type: "close", drain: true });
  script.pass(300);
  script.do({ type: "open", policy: undefined, keyFingerprint: "0123456789abcdef" });
  script.pass(800);
  script.lease();
  expect((await verify(sourceOf(script.commits), {})).findings).toEqual([]);
});

describe("chance", () => {
  const policy = { strategy: { kind: "random" }, backoff: { kind: "fixed", restMs: 500, jitterMs: 100 } };
  const random = makeLedger(120, { policy, chaos: 0, proxies: 12, failures: 10 });
  const isDraw = (event: Record<string, unknown>) => isGrant(event) && figuresOf(event)["among"]! > 3;
  const isRest = (event: Record<string, unknown>) =>
    event["type"] === "RestBegan" && String(event["reasons"]) === "backoff";

  test("is drawn by the checker as the decisions draw it", () => {
    const numbers = seeded(3);
    for (let i = 0; i < 500; i++) {
      const chance = Array.from({ length: 32 }, () => numbers.int(0, 15).toString(16)).join("");
      const [place, most] = [numbers.int(0, 900), numbers.int(0, 2 ** 40)];
      expect(drawn(chance, place, most)).toBe(drawFor(chance, place).upTo(most));
    }
  });

  test.each<[string, (event: Record<string, unknown>) => boolean, RegExp, Change]>([
    [
      "a lot that was not drawn",
      isDraw,
      /^chance: .* was drawn as lot \d+ of \d+, and the commit's chance gives \d+$/,
      (event) => {
        figuresOf(event)["lot"] = (figuresOf(event)["lot"]! + 1) % figuresOf(event)["among"]!;
      },
    ],
    [
      "a lot among more proxies than there are",
      isDraw,
      /^chance: .* of 99, /,
      (event) => {
        figuresOf(event)["among"] = 99;
      },
    ],
    [
      "a draw that is not recorded",
      isDraw,
      /^chance: .* does not record the draw$/,
      (event) => {
        event["ranked"] = {};
      },
    ],
    [
      "a draw without chance",
      isDraw,
      /^chance: .* was drawn by chance, and the commit records none$/,
      (_event, commit) => {
        delete commit.chance;
      },
    ],
    [
      "a chance that is not the one of the draw",
      isDraw,
      /^chance: .* was drawn as lot/,
      (_event, commit) => {
        commit.chance = "f".repeat(32);
      },
    ],
    [
      "a jitter within its bounds that was not drawn",
      isRest,
      /^rest: .* rests until \d+ for backoff, and must rest until \d+$/,
      (event) => {
        event["until"] = Number(event["until"]) + 1;
      },
    ],
    [
      "a jitter without chance",
      isRest,
      /^chance: a rest of .* is drawn by chance, and the commit records none$/,
      (_event, commit) => {
        delete commit.chance;
      },
    ],
  ])("finds %s", async (_what, matches, expected, change) => {
    const found = await foundIn(random, matches, change);
    expect(found.filter((one) => expected.test(one))).not.toEqual([]);
  });

  test("finds a draw without chance by the bandit", async () => {
    const strategy = { kind: "bandit", halfLifeMs: 20_000, by: "proxy", slowMs: null };
    const ledger = makeLedger(120, { policy: { strategy }, chaos: 0, proxies: 6 });
    const found = await foundIn(ledger, isGrant, (_event, commit) => {
      delete commit.chance;
    });
    expect(found[0]).toMatch(/^chance: .* was drawn by chance/);
  });
});

test("finds a lease request for one proxy that gets another", async () => {
  const ledger = makeLedger(120, { chaos: 0, proxies: 5 });
  const found = await foundIn(ledger, isGrant, (event) =>
    Object.assign(event, { request: { proxyId: "p_0000000000000099" } }),
  );
  expect(found[0]).toMatch(/^request: .* and p_0000000000000099 was requested$/);
});

test("finds a grant of fewer uses than possible, and accepts one of all uses that are left", async () => {
  const policy = { rate: { limit: 5, windowMs: 60_000 } };
  const script = new Script("2026-01-31T14:00:00Z", policy, 1);
  script.lease({ uses: 3 });
  script.lease({ uses: 5 });
  expect((await verify(sourceOf(script.commits), {})).findings).toEqual([]);
  const isFirst = (event: Record<string, unknown>): boolean => isGrant(event) && event["uses"] === 3;
  const { index, place } = findEvent(script.commits, isFirst);
  const forged = forge(script.commits, index, ({ events }) => Object.assign(events[place] as object, { uses: 2 }));
  const [first] = (await verify(sourceOf(forged), {})).findings;
  expect(first).toMatchObject({
    n: index + 1,
    what: expect.stringMatching(/ has 2 uses, and 3 could have been granted$/),
  });
});

test("chooses the best proxies under another strategy where the record drew at random", async () => {
  const ledger = makeLedger(200, { policy: { strategy: { kind: "random" } }, chaos: 0, failures: 10, proxies: 6 });
  const result = await whatIf(sourceOf(ledger), { policy: { strategy: { kind: "best" } }, waitMs: 0 });
  expect(result.reproduced.isExact).toBe(true);
  expect(result.other.findings).toBe(0);
  expect(result.same.commits).toBeLessThan(result.same.of / 2);
});
