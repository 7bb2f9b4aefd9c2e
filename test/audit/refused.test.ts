// Wrong refusals: a lease request is refused although a proxy is available.
import { describe, expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import { verify } from "../../services/audit/verify.ts";
import type { Request } from "../../state-machines/command.ts";
import { forge, makeLedger, sourceOf } from "./ledgers.ts";
import { proxyId, Script } from "./scripted.ts";

const policy = { rate: { limit: 2, windowMs: 60_000 }, concurrency: 1, backoff: { kind: "none" } };

/** Two proxies: the first is at its rate, the second rests manually. No request can be granted, and one is refused. */
function exhausted(): Script {
  const script = new Script("2026-01-31T14:00:00Z", policy, 2);
  script.rest(2, 3_600_000, "maintenance");
  for (let i = 0; i < 2; i++) {
    const id = script.lease();
    script.pass(100);
    script.report(id, { status: 200 });
  }
  script.pass(1000);
  expect(script.lease({ labels: { country: "DE" }, holder: "worker-7" })).toBe("");
  return script;
}

async function found(commits: readonly Buffer[]): Promise<string[]> {
  return (await verify(sourceOf(commits), {})).findings.map(({ n, rule, what }) => `${n} ${rule}: ${what}`);
}

const refusal = (commit: CommitEnvelope) => commit.events[0] as { code: string; request: Record<string, unknown> };

function refusalOf(request: Record<string, unknown>): Request {
  return { type: "record", events: [{ type: "RequestsRefused", code: "pool-exhausted", count: 1, request }] };
}

describe("a refusal", () => {
  test("is correct while no proxy is available, and names the refused request", async () => {
    const { commits } = exhausted();
    expect(await found(commits)).toEqual([]);
    const { events } = JSON.parse(commits.at(-1)!.toString()) as CommitEnvelope;
    expect(events).toMatchObject([
      { type: "RequestsRefused", code: "pool-exhausted", count: 1, request: { labels: { country: "DE" } } },
    ]);
  });

  test("is reported while a proxy was free, with that proxy", async () => {
    const script = exhausted();
    script.pass(70_000);
    const n = script.commits.length + 1;
    script.do(refusalOf({}));
    expect(await found(script.commits)).toEqual([
      `${n} refusal: a lease request is refused as pool-exhausted, and ${proxyId(1)} could have been leased`,
    ]);
  });

  test.each<[string, Record<string, unknown>]>([
    ["asks for more uses than are left", { minUses: 3 }],
    ["excludes it", { exclude: [proxyId(1)] }],
    ["asks for others", { labels: { country: "FR" } }],
    ["is for another alone", { proxyId: proxyId(2) }],
    ["is of a session, which waits for its own", { session: "basket" }],
  ])("of a lease request that %s is correct despite the free proxy", async (_what, request) => {
    const script = exhausted();
    script.pass(70_000);
    script.do(refusalOf(request));
    expect(await found(script.commits)).toEqual([]);
  });

  test("is correct for a holder at its cap, and wrong for one below it", async () => {
    const script = new Script("2026-01-31T14:00:00Z", { ...policy, holder: { leasesMax: 1 } }, 3);
    script.lease({ holder: "worker-7" });
    expect(script.lease({ holder: "worker-7" })).toBe("");
    expect(await found(script.commits)).toEqual([]);
    const other = forge(script.commits, script.commits.length - 1, (commit) =>
      Object.assign(refusal(commit).request, { holder: "worker-8" }),
    );
    expect((await found(other))[0]).toMatch(/ refusal: .* could have been leased$/);
  });

  test("is reported as no-match while a proxy matches, resting or not", async () => {
    const script = exhausted();
    const forged = forge(script.commits, script.commits.length - 1, (commit) =>
      Object.assign(refusal(commit), { code: "no-match" }),
    );
    expect((await found(forged))[0]).toMatch(
      / refusal: a lease request is refused as no-match, and p_0+1 answers to it$/,
    );
    const none = forge(script.commits, script.commits.length - 1, (commit) =>
      Object.assign(refusal(commit), { code: "no-match", request: { labels: { country: "JP" } } }),
    );
    expect(await found(none)).toEqual([]);
  });

  test("is reported if its count is below one", async () => {
    const script = exhausted();
    const forged = forge(script.commits, script.commits.length - 1, (commit) =>
      Object.assign(refusal(commit), { count: 0 }),
    );
    expect((await found(forged))[0]).toMatch(/ field: .* its count must be a whole number of at least 1/);
  });
});

test("is checked in parts in a large pool, and a proxy that stays free is found", async () => {
  const script = new Script("2026-01-31T14:00:00Z", policy, 0);
  const ledger = makeLedger(1, { proxies: 2500, chaos: 0, policy });
  expect(script.commits).toHaveLength(1);
  const refusals = Array.from({ length: 3 }, (_, i) => {
    const head = {
      v: 2,
      n: i + 2,
      prev: "",
      term: 1,
      at: 1_700_000_001_000 + i,
      cursor: { seq: 0, at: 1_700_000_000_000 },
    };
    const request = { exclude: Array.from({ length: 1000 }, (_, k) => `p_${String(k).padStart(16, "0")}`) };
    return Buffer.from(
      JSON.stringify({ ...head, events: [{ type: "RequestsRefused", code: "pool-exhausted", count: 1, request }] }),
    );
  });
  const forged = forge([...ledger, ...refusals], 1, () => {});
  expect((await found(forged)).filter((one) => one.includes("could have been leased")).length).toBeGreaterThan(0);
});
