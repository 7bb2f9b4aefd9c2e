// Guest tokens in the audit: ledgers with them are found well by a checker written apart, forged ones are not, a restored
// state knows them, and the record of one comes out the same when it is decided again.
import { describe, expect, test } from "vitest";
import { type CommitEnvelope, encodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { tokenStates } from "../../events/token.ts";
import { hashOf } from "../../runtime/loop.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { beginRefresh, lose } from "../../state-machines/decide/token.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { restore } from "../../state-machines/fold/restore.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { expectAlike } from "../kit/alike.ts";
import { herd } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";
import { TokenPool } from "../kit/token-pool.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

/** A pool whose turns are kept as the commits of a ledger. */
class Recorded extends TokenPool {
  // Made with the first turn, which is before this class has fields.
  declare commits: Buffer[];

  override turn<T>(decide: (turn: Turn) => T): T {
    const result = super.turn(decide);
    this.commits ??= [];
    if (this.facts.length === 0) return result;
    const last = this.commits.at(-1);
    const n = this.commits.length + 1;
    const prev = last === undefined ? "" : hashOf(last);
    const head = { n, prev, term: 1, at: this.at, cursor: { seq: 0, at: 0 }, chance: this.chance };
    this.commits.push(
      Buffer.from(
        encodeCommit(
          head,
          this.facts.map((event) => JSON.stringify(event)),
        ),
      ),
    );
    return result;
  }
}

/** Tokens asked for, minted, refused and rejected as chance makes it. */
function randomPool(seed: number): Recorded {
  const random = seeded(seed);
  const scope = seed % 2 === 0 ? "pool" : "proxy";
  const token = { scope, minAgeMs: 5000, refreshAheadMs: seed % 3 === 0 ? 4000 : 0, unavailableAfter: 2 };
  const source = { url: "http://127.0.0.1:9/guest", value: { jsonPointer: "/t" }, life: { ms: 30_000 } };
  const pool = new Recorded({ ...token, source }, { strategy: { kind: random.pick(["best", "lifo", "random"]) } });
  pool.add(herd(random.int(1, 5)));
  const given: { leaseId: string; tokenId: string }[] = [];
  for (let step = 0; step < 120; step++) {
    const [request] = pool.fetching;
    const what = random.int(1, 10);
    if (what <= 4) {
      const lease = pool.lease({ token: random.chance(0.8) });
      if ("leaseId" in lease) {
        const tokenId = pool.state.leases.get(lease.leaseId)?.token?.tokenId ?? "";
        given.push({ leaseId: lease.leaseId, tokenId });
      }
    } else if (what <= 6 && request !== undefined)
      pool.minted(random.chance(0.5) ? random.int(6000, 60_000) : undefined, request);
    else if (what === 7 && request !== undefined) pool.failed("status", request);
    else if (given.length > 0) {
      const { leaseId } = given.splice(random.int(0, given.length - 1), 1)[0]!; // There is one.
      pool.report({ leaseId }, { n: 1, status: 200, ...(random.chance(0.5) ? { tokenRejected: true } : {}) });
    }
    pool.wait(random.int(1, 3000));
  }
  return pool;
}

const foldAll = (commits: readonly Buffer[]): PoolState => {
  const state = new PoolState("");
  for (const bytes of commits) foldCommit(state, JSON.parse(bytes.toString()));
  return state;
};
const seeds = Array.from({ length: 14 }, (_, i) => i + 1);

test("nothing is found in ledgers with tokens that were asked for, minted, refused and rejected as chance made it", {
  timeout: 120_000,
}, async () => {
  const total = new Map<string, number>();
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const report = await verify(sourceOf(commits), {});
    expect(report.findings.slice(0, 3), `seed ${seed}`).toEqual([]);
    for (const bytes of commits)
      for (const { type, why } of (JSON.parse(bytes.toString()) as { events: { type: string; why?: string }[] }).events)
        for (const name of [type, `${type} ${why}`]) total.set(name, (total.get(name) ?? 0) + 1);
  }
  // The ledgers must have put the rules to the test.
  for (const name of [
    "TokenMinted",
    "TokenRefused status",
    "TokenRefused deadline",
    "TokenRejected",
    ...["asked", "rejected", "expired", "ahead"].map((why) => `TokenRequested ${why}`),
  ])
    expect(total.get(name), name).toBeGreaterThan(3);
});

test("a state with tokens in each of their states is restored as it was, then and after every commit that follows", {
  timeout: 120_000,
}, () => {
  const seen = new Set<string>();
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const random = seeded(seed);
    for (let cuts = 0; cuts < 12; cuts++) {
      const cut = random.int(1, commits.length - 1);
      const state = foldAll(commits.slice(0, cut));
      for (const token of state.tokens.values()) seen.add(token.state);
      const restored = restore(JSON.parse(JSON.stringify(snapshotOf(state))));
      const derivedOf = (of: PoolState) => ({
        ids: [...of.tokenIds].map(([id, { key }]) => `${id} ${key}`).sort(),
        first: of.deadlines.top?.key,
        next: of.tokenTimes.top?.changesAt,
      });
      expectAlike(snapshotOf(restored), snapshotOf(state), `seed ${seed}`);
      expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
      for (const bytes of commits.slice(cut, cut + 15)) {
        foldCommit(state, JSON.parse(bytes.toString()));
        foldCommit(restored, JSON.parse(bytes.toString()));
        expectAlike(snapshotOf(restored), snapshotOf(state), `seed ${seed}`);
        expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
      }
      advance(state, state.at + 1_000_000);
      advance(restored, restored.at + 1_000_000);
      expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
    }
  }
  expect([...seen].sort()).toEqual([...tokenStates].sort());
});

test("a record with tokens comes out the same, decision by decision, and so does the other history under the same policy", {
  timeout: 120_000,
}, async () => {
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const result = await whatIf(sourceOf(commits), { policy: {}, waitMs: 60_000 });
    expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
    expect(result.same, `seed ${seed}`).toEqual({ commits: commits.length, of: commits.length });
    expect(result.other.findings, `seed ${seed}`).toBe(0);
  }
});

test("what is assumed of tokens is told in numbers, and only where there are any", async () => {
  const { commits } = randomPool(1);
  const { assumptions } = await whatIf(sourceOf(commits), { policy: { concurrency: 1 }, waitMs: 0 });
  const events = commits.flatMap((bytes) => (JSON.parse(bytes.toString()) as { events: Event[] }).events);
  const count = (type: string): number => events.filter((event) => event.type === type).length;
  const wishes = events.filter((event) => event.type === "LeaseGranted" && event.wish.token === true).length;
  const told = assumptions.find((each) => each.startsWith("Tokens are not decided again"));
  expect(told).toContain(`the ${wishes} wishes that got one`);
  expect(told).toContain(
    `The ${count("TokenRequested")} refreshes of the record (${count("TokenMinted")} minted, ${count("TokenRefused")} came to nothing)`,
  );
  const without = await whatIf(sourceOf(makeLedger(20)), { policy: {}, waitMs: 0 });
  expect(without.assumptions.join()).not.toContain("Token");
});

test("another policy of tokens is not tried, and that is said", async () => {
  const { commits } = randomPool(1);
  const asked = whatIf(sourceOf(commits), { policy: { token: null }, waitMs: 0 });
  await expect(asked).rejects.toThrow("--policy: tokens are not decided again");
});

describe("what is found in a forged ledger", () => {
  type Change = (event: Record<string, unknown>, commit: CommitEnvelope) => void;
  const { commits } = randomPool(2);
  const foundIn = async (matches: (event: Record<string, unknown>) => boolean, change: Change) => {
    const { index, place } = findEvent(commits, matches);
    const forged = forge(commits, index, (commit) => change(commit.events[place] as Record<string, unknown>, commit));
    const { findings } = await verify(sourceOf(forged), {});
    return findings.filter(({ n }) => n === index + 1).map(({ rule, what }) => `${rule}: ${what}`);
  };
  const isOf = (type: string) => (event: Record<string, unknown>) => event["type"] === type;
  const other = `t_${"x".repeat(22)}`;

  test.each<[string, RegExp, string, Change]>([
    [
      "a result of no refresh",
      /no refresh of that name is under way/,
      "TokenMinted",
      (event) => (event["tokenId"] = other),
    ],
    ["a token minted at another time", /said to be minted at/, "TokenMinted", (event) => (event["mintedAt"] = 1)],
    [
      "a refresh that lasts longer",
      /not 15000 ms after its beginning/,
      "TokenRequested",
      (event) => (event["deadlineAt"] = 9e12),
    ],
    [
      "a refresh for another reason",
      /and it is because "asked"/,
      "TokenRequested",
      (event) => (event["why"] = "ahead"),
    ],
    [
      "a refresh of another scope",
      /the policy's scope is pool/,
      "TokenRequested",
      (event) => (event["scope"] = "proxy"),
    ],
    [
      "a refresh without a lease of its own",
      /no lease of one use/,
      "TokenRequested",
      (event) => (event["leaseId"] = "l_none"),
    ],
    [
      "two refreshes at once",
      /is under way for the same token/,
      "TokenRequested",
      (event, commit) => {
        commit.events.push({ ...event, tokenId: other });
      },
    ],
    [
      "a failure that is left out of the count",
      /is failure 7 in a row/,
      "TokenRefused",
      (event) => (event["failures"] = 7),
    ],
    ["a pause that is too short", /may be followed by another from/, "TokenRefused", (event) => (event["retryAt"] = 0)],
    [
      "a failure that leads elsewhere",
      /leads the token of pool from refreshing to unavailable/,
      "TokenRefused",
      (event) => (event["token"] = "unavailable"),
    ],
  ])("%s", async (_title, expected, type, change) => {
    const found = await foundIn(isOf(type), change);
    expect(found.join("\n")).toMatch(expected);
  });

  test("a lease with a token that is not the current one, with one that nobody wished for, and without the one that was", async () => {
    const isWithToken = (event: Record<string, unknown>): boolean =>
      event["tokenId"] !== undefined && isOf("LeaseGranted")(event);
    expect((await foundIn(isWithToken, (event) => (event["tokenId"] = other))).join()).toMatch(/the current one is t_/);
    expect((await foundIn(isWithToken, (event) => (event["wish"] = {}))).join()).toMatch(/none was wished for/);
    expect((await foundIn(isWithToken, (event) => delete event["tokenId"])).join()).toMatch(/granted with no token/);
  });

  test("a lease with a token that was rejected", async () => {
    const gone = (event: Record<string, unknown>) => isOf("TokenRejected")(event) && event["count"] === undefined;
    const { index } = findEvent(commits, gone);
    const grant = findEvent(commits, (event) => event["tokenId"] !== undefined && isOf("LeaseGranted")(event));
    const rejected = { type: "TokenRejected", token: "stale", action: "refreshing" };
    const forged = forge(commits, grant.index, ({ events }) => {
      const { tokenId } = events[grant.place] as { tokenId: string };
      events.splice(grant.place, 0, { ...rejected, tokenId });
    });
    expect(index).toBeGreaterThan(0);
    const { findings } = await verify(sourceOf(forged), {});
    expect(findings.map(({ what }) => what).join("\n")).toMatch(/which was rejected/);
  });

  test("a refresh ahead of an end that is far, or where nothing is refreshed ahead", async () => {
    const pool = new Recorded({ scope: "pool", refreshAheadMs: 4000 });
    pool.add(herd(2));
    pool.lease({ token: true });
    pool.minted(60_000);
    expect((await verify(sourceOf(pool.commits), {})).findings).toEqual([]);
    pool.wait(10_000);
    pool.turn((turn) => beginRefresh(turn, { proxy: [...turn.state.proxies.values()][0]!, ranked: {} }));
    const { findings } = await verify(sourceOf(pool.commits), {});
    expect(findings.map(({ rule, what }) => `${rule}: ${what}`).join()).toMatch(
      /token: .* nothing calls for that before/,
    );
  });

  test("a young token that is given up, unless the leader has only just claimed the pool", async () => {
    const pool = new Recorded({ scope: "pool" });
    pool.add(herd(2));
    pool.begun();
    pool.granted({ token: true });
    pool.turn((turn) => lose(turn, pool.token()!));
    const { findings } = await verify(sourceOf(pool.commits), {});
    expect(findings.map(({ rule, what }) => `${rule}: ${what}`)).toEqual([
      expect.stringMatching(/^token: .* is to be kept until/),
    ]);
    const isGivenUp = (event: Record<string, unknown>) => isOf("TokenRejected")(event);
    const { index } = findEvent(pool.commits, isGivenUp);
    const claimed = forge(pool.commits, index, (commit) => {
      commit.term = 2;
      commit.events = [{ type: "LeaderClaimed", leader: "leader-2", term: 2 } satisfies Event, commit.events[0]];
    });
    const upTo = await verify(sourceOf(claimed.slice(0, index + 1)), {});
    expect(upTo.findings).toEqual([]);
  });

  test("a refresh that goes on after its deadline while others are served", async () => {
    const pool = new Recorded({ scope: "pool" });
    pool.add(herd(2));
    pool.lease({ token: true });
    pool.wait(20_000);
    pool.granted();
    const { index, place } = findEvent(pool.commits, isOf("TokenRefused"));
    const forged = forge(pool.commits, index, ({ events }) => void events.splice(place, 1));
    const { findings } = await verify(sourceOf(forged), {});
    expect(findings.map(({ what }) => what).join("\n")).toMatch(/goes on after its deadline/);
  });
});

test("a token that is unavailable may be given up once more, by a rejection that has it fetched; any other may not", async () => {
  const pool = new Recorded({ scope: "pool", minAgeMs: 0, unavailableAfter: 1 });
  pool.add(herd(1));
  const tokenId = pool.begun();
  pool.reject(tokenId);
  pool.failed();
  pool.reject(tokenId);
  pool.wait(60_000);
  const events = pool.commits.flatMap((bytes) => (JSON.parse(bytes.toString()) as { events: Event[] }).events);
  expect(events.filter((event) => event.type === "TokenRejected" && event.count === undefined)).toHaveLength(2);
  expect((await verify(sourceOf(pool.commits), {})).findings).toEqual([]);
  const { index, place } = findEvent(pool.commits, ({ type }) => type === "TokenRejected");
  const twice = forge(pool.commits, index, ({ events }) => void events.splice(place, 0, events[place]));
  const found = (await verify(sourceOf(twice), {})).findings.map(({ what }) => what).join(" ");
  expect(found).toContain("is given up a second time");
});
