// Guest tokens in the audit: forged ledgers with them give findings, and what-if reports its assumptions about them.
import { describe, expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { beginRefresh, giveUp } from "../../state-machines/decide/token.ts";
import { proxyLines } from "../kit/pool.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";
import { Recorded, randomPool } from "./token-ledgers.ts";

test("reports the assumptions about tokens in numbers, only if there are any", async () => {
  const { commits } = randomPool(1);
  const { assumptions } = await whatIf(sourceOf(commits), { policy: { concurrency: 1 }, waitMs: 0 });
  const events = commits.flatMap((bytes) => (JSON.parse(bytes.toString()) as { events: Event[] }).events);
  const count = (type: string): number => events.filter((event) => event.type === type).length;
  const requests = events.filter((event) => event.type === "LeaseGranted" && event.request.token === true).length;
  const told = assumptions.find((each) => each.startsWith("Tokens are not decided again"));
  expect(told).toContain(`The ${requests} requests that got one`);
  expect(told).toContain(
    `The ${count("TokenRequested")} refreshes of the record (${count("TokenMinted")} minted, ${count("TokenRefused")} failed)`,
  );
  const without = await whatIf(sourceOf(makeLedger(20)), { policy: {}, waitMs: 0 });
  expect(without.assumptions.join()).not.toContain("Token");
});

test("does not try another token policy, and says so", async () => {
  const { commits } = randomPool(1);
  const asked = whatIf(sourceOf(commits), { policy: { token: null }, waitMs: 0 });
  await expect(asked).rejects.toThrow("--policy: what-if does not decide tokens again");
});

describe("findings in a forged ledger", () => {
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
    ["a token minted at another time", /has the minting time/, "TokenMinted", (event) => (event["mintedAt"] = 1)],
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
      /not a lease of one use/,
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

  test("finds a lease with a wrong token, an unrequested one, or without the requested one", async () => {
    const isWithToken = (event: Record<string, unknown>): boolean =>
      event["tokenId"] !== undefined && isOf("LeaseGranted")(event);
    expect((await foundIn(isWithToken, (event) => (event["tokenId"] = other))).join()).toMatch(/the current one is t_/);
    expect((await foundIn(isWithToken, (event) => (event["request"] = {}))).join()).toMatch(/no token was requested/);
    expect((await foundIn(isWithToken, (event) => delete event["tokenId"])).join()).toMatch(/granted with no token/);
  });

  test("finds a lease with a rejected token", async () => {
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

  test("finds a refresh ahead of a far end, or where tokens are not refreshed ahead", async () => {
    const pool = new Recorded({ scope: "pool", refreshAheadMs: 4000 });
    pool.add(proxyLines(2));
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

  test("finds a young token that is given up, unless the leader has only just claimed the pool", async () => {
    const pool = new Recorded({ scope: "pool" });
    pool.add(proxyLines(2));
    pool.begun();
    pool.granted({ token: true });
    pool.turn((turn) => giveUp(turn, pool.token()!, { why: "value-lost" }));
    const { findings } = await verify(sourceOf(pool.commits), {});
    expect(findings.map(({ rule, what }) => `${rule}: ${what}`)).toEqual([
      expect.stringMatching(/^token: .* must be kept until/),
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

  test("finds a refresh that goes on after its deadline while leases are granted", async () => {
    const pool = new Recorded({ scope: "pool" });
    pool.add(proxyLines(2));
    pool.lease({ token: true });
    pool.wait(20_000);
    pool.granted();
    const { index, place } = findEvent(pool.commits, isOf("TokenRefused"));
    const forged = forge(pool.commits, index, ({ events }) => void events.splice(place, 1));
    const { findings } = await verify(sourceOf(forged), {});
    expect(findings.map(({ what }) => what).join("\n")).toMatch(/goes on after its deadline/);
  });
});

test("accepts giving up an unavailable token again only by a rejection that has it fetched", async () => {
  const pool = new Recorded({ scope: "pool", minAgeMs: 0, unavailableAfter: 1 });
  pool.add(proxyLines(1));
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
