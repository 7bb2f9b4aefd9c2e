// A request for several leases (`count`): as many as can be had at once, on different exits, under one request.
import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { snapshotLines } from "../../state-machines/fold/snapshot-lines.ts";
import type { Lease } from "../../state-machines/fold/state.ts";
import { canonical } from "../../state-machines/structures/canonical.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { loaded } from "../sim/snapshots.ts";
import { findEvent, findingsIn, forge, sourceOf } from "./ledgers.ts";
import { addition, proxyId, Script } from "./scripted.ts";

const policy = { rate: { limit: 4, windowMs: 60_000 }, concurrency: null };

function script(given: Record<string, unknown> = {}, proxies = 6): Script {
  return new Script("2026-03-01T10:00:00Z", { ...policy, ...given }, proxies);
}

let asked = 0;

/** The leases that the request got. None: it was refused. */
function ask(on: Script, body: Record<string, unknown>): readonly Lease[] {
  const request = leaseRequestSchema.parse(body);
  const [leaseId = "", ...more] = Array.from(
    { length: request.count ?? 1 },
    () => `l_${String(++asked).padStart(22, "c")}`,
  );
  const answer = on.do({ type: "lease", request, leaseId, more, deadline: 0 });
  return answer !== undefined && "lease" in answer ? [answer.lease, ...(answer.more ?? [])] : [];
}

const exitsOf = (leases: readonly Lease[]) => leases.map(({ exit }) => exit.key);
const idsOf = (leases: readonly Lease[]) => leases.map(({ id }) => id);

describe.each(["best", "lifo", "random", "least-used", "round-robin", "drain", "bandit"])(
  "with the strategy %s",
  (kind) => {
    test("grants leases on different exits, in a history that holds and is decided again exactly", async () => {
      const on = script({ strategy: { kind } });
      on.do(addition(proxyId(7), "192.0.2.7", { exit: "192.0.2.1" }));
      for (const count of [3, 2, 7, 6, 1, 5]) {
        const leases = ask(on, { requestId: `request-${count}-0123456789`, count, uses: 1 });
        expect(new Set(exitsOf(leases)).size).toBe(leases.length);
        expect(leases.length).toBeGreaterThan(0);
        on.pass(500);
        for (const { id } of leases.slice(1)) on.release(id);
        on.pass(7000);
      }
      expect(await verify(sourceOf(on.commits), {})).toMatchObject({
        isWell: true,
        findings: [],
        decisionsChecked: true,
      });
      const same = await whatIf(sourceOf(on.commits), { policy: {}, waitMs: 0 });
      expect(same.reproduced.isExact).toBe(true);
      const tighter = await whatIf(sourceOf(on.commits), {
        policy: { rate: { limit: 2, windowMs: 60_000 } },
        waitMs: 30_000,
      });
      expect(tighter.other).toMatchObject({ findings: same.other.findings });
      expect(tighter.other.leases).toBeLessThan(same.other.leases);
    });
  },
);

test("grants as many as can be had, and refuses only if none can", () => {
  const on = script({ rate: { limit: 1, windowMs: 60_000 } }, 3);
  expect(ask(on, { count: 2 })).toHaveLength(2);
  expect(ask(on, { count: 100 })).toHaveLength(1);
  expect(ask(on, { count: 2 })).toHaveLength(0);
});

test("keeps to one exit for a session and for a named proxy", () => {
  const on = script();
  expect(ask(on, { count: 3, session: "a" })).toHaveLength(1);
  expect(ask(on, { count: 3, proxyId: proxyId(2) })).toHaveLength(1);
});

test("stops at the holder's cap", () => {
  const on = script({ holder: { leasesMax: 2 } });
  expect(ask(on, { count: 5, holder: "h" })).toHaveLength(2);
});

test("gives a repeated request the leases that are still open, and nothing new", () => {
  const on = script();
  const request = { requestId: "a-request-of-three-leases", count: 3 };
  const first = ask(on, request);
  expect(idsOf(ask(on, request)).sort()).toEqual(idsOf(first).sort());
  on.release(first[0]?.id ?? "");
  expect(idsOf(ask(on, request)).sort()).toEqual(idsOf(first.slice(1)).sort());
  expect(ask(on, { ...request, count: 2 })).toHaveLength(0);
  for (const { id } of first.slice(1)) on.release(id);
  expect(idsOf(ask(on, request))).not.toContain(first[1]?.id);
});

test("gives a repeated request the leases whose time is not over, before the end of the others is recorded", () => {
  const pool = new TestPool({ ...policy, lease: { ttlMs: 1000 } });
  pool.add(proxyLines(2));
  const request = leaseRequestSchema.parse({ requestId: "a-request-of-two-leases", count: 2 });
  const asking = (leaseId: string) =>
    pool.decide({ type: "lease", request, leaseId, more: [`${leaseId}-more`], deadline: 0 });
  asking("l_first");
  pool.renew({ leaseId: "l_first-more" }, 5000);
  pool.at += 2000;
  expect(asking("l_again")).toMatchObject({ lease: { id: "l_first-more" } });
});

test("a snapshot keeps the leases of one request together", () => {
  const on = script();
  const [first] = ask(on, { requestId: "a-request-of-three-leases", count: 3 });
  for (const release of [false, true]) {
    if (release) on.release(first?.id ?? "");
    const restored = loaded(snapshotLines(on.state));
    expect(canonical(snapshotOf(restored))).toBe(canonical(snapshotOf(on.state)));
    const open = restored.requests.get("a-request-of-three-leases");
    expect(open?.siblings).toHaveLength(release ? 2 : 3);
    expect(open?.siblings?.every(({ siblings }) => siblings === open.siblings)).toBe(true);
  }
});

test("the audit finds a lease too many, a second one on an exit, and one that belongs to no new lease", async () => {
  const on = script();
  on.do(addition(proxyId(7), "192.0.2.7", {}));
  ask(on, { count: 3, requestId: "a-request-of-three-leases" });
  const isFurther = (event: Record<string, unknown>): boolean => event["with"] !== undefined;
  const { index, place } = findEvent(on.commits, isFurther);
  const after = (change: (events: Record<string, unknown>[]) => void) =>
    findingsIn(forge(on.commits, index, ({ events }) => change(events as Record<string, unknown>[])));
  const [tooMany] = await after((events) => {
    for (const event of events) if ("request" in event) (event["request"] as { count: number }).count = 2;
  });
  expect(tooMany).toMatchObject({ rule: "request", what: expect.stringContaining("which asked for 2") });
  const [alike] = await after((events) => {
    Object.assign(events[place] ?? {}, { proxyId: events[place - 1]?.["proxyId"] });
  });
  expect(alike?.what).toMatch(/has the exit .*, like l_/);
  const [unknown] = await after((events) => {
    Object.assign(events[place] ?? {}, { with: "l_of-another-request-0123" });
  });
  expect(unknown).toMatchObject({
    rule: "request",
    what: expect.stringContaining("which is no new lease of its request"),
  });
});

test("the audit finds a request that is granted again while any of its leases is open", async () => {
  const on = script();
  const request = { requestId: "a-request-of-two-leases!", count: 2 };
  const [, second] = ask(on, request);
  on.release(second?.id ?? "");
  ask(on, { ...request, requestId: "another-request-of-two!!" });
  const index = on.commits.length - 1;
  const forged = forge(on.commits, index, ({ events }) => {
    for (const event of events as Record<string, unknown>[])
      if ("request" in event) Object.assign(event["request"] as object, { requestId: request.requestId });
  });
  expect(await findingsIn(forged)).toContainEqual(
    expect.objectContaining({ rule: "request", what: expect.stringContaining("are both open for the request") }),
  );
});

test("rejects a count with which one commit would record too much", () => {
  const on = script();
  const long = (of: number): Record<string, unknown> => ({ labels: { note: "x".repeat(200) }, count: of });
  const exclude = Array.from({ length: 100 }, (_, i) => `p_${String(i).padStart(126, "0")}`);
  const request = leaseRequestSchema.parse({ ...long(100), exclude });
  expect(on.do({ type: "lease", request, leaseId: "l_x", deadline: 0 })).toMatchObject({
    refusal: { code: "invalid-request", field: "count" },
  });
  expect(ask(on, { count: 2, exclude })).toHaveLength(2);
});
