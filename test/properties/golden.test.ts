// A ledger of version 2 that was written once, with every kind of event, and the state to which it folds: this must
// hold for ever. The fixture comes from a simulated service, with a signed head added. A new kind of event gets a
// fixture of its own.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import { eventSchemas } from "../../events/event.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { viewLease, viewPool, viewProxy, viewStats } from "../../state-machines/view.ts";
import { findingsIn } from "../audit/ledgers.ts";

const read = (name: string): string => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), "utf8");
const commits = read("ledger-v2.ndjson").trimEnd().split("\n");

/** Events that the format had when the fixture was written. */
const since = Object.keys(eventSchemas).filter((type) => !["SegmentArchived", "LedgerRestored"].includes(type));

test("the ledger has every kind of event", () => {
  const types = commits.flatMap((line) => decodeCommit(line).events.map((event) => (event as { type: string }).type));
  expect([...new Set(types)].toSorted()).toEqual(since.toSorted());
});

test("the ledger folds to the recorded state", () => {
  const state = new PoolState("sim");
  for (const line of commits) foldCommit(state, decodeCommit(line));
  const folded = {
    pool: viewPool(state),
    stats: viewStats(state, new Candidates(state), { sequence: commits.length, waiting: 0 }),
    proxies: [...state.proxies.values()].map((proxy) => viewProxy(state, proxy)),
    leases: [...state.leases.values()].map((lease) => viewLease(state, lease, state.at)),
  };
  expect(JSON.parse(JSON.stringify(folded))).toEqual(JSON.parse(read("ledger-v2.json")));
});

test("the audit finds nothing in it", async () => {
  expect(await findingsIn(commits.map((line) => Buffer.from(line)))).toEqual([]);
});

test("a ledger with archived commits folds to their range, and the audit has no finding in it", async () => {
  const archived = read("archived-v2.ndjson").trimEnd().split("\n");
  const state = new PoolState("default");
  for (const line of archived) foldCommit(state, decodeCommit(line));
  expect(state.archived).toEqual({ n: 8, sequence: 8 });
  expect(await findingsIn(archived.map((line) => Buffer.from(line)))).toEqual([]);
  const last = archived.at(-1) ?? "";
  const ofWrong = async (from: string, to: string) =>
    (await findingsIn([...archived.slice(0, -1), last.replace(from, to)].map((line) => Buffer.from(line)))).map(
      ({ what }) => what,
    );
  expect(await ofWrong('"first":1', '"first":3')).toEqual(["commits 3 to 8 are archived, after those up to 0"]);
  expect(await ofWrong('"last":8', '"last":13')).toEqual(["commit 13 says that commits 1 to 13 are archived"]);
});

test("a ledger that was restored folds to its pause without leases, and the audit has no finding in it", async () => {
  const restored = read("restored-v2.ndjson").trimEnd().split("\n");
  const state = new PoolState("default");
  for (const line of restored) foldCommit(state, decodeCommit(line));
  expect(state.restored).toEqual({ last: 4, at: 1700000060339, until: 1700003722439 });
  expect(state.archived).toEqual({ n: 4, sequence: 4 });
  expect([state.leases.size, state.closedLeases.size]).toEqual([0, 3]);
  expect(await findingsIn(restored.map((line) => Buffer.from(line)))).toEqual([]);
});

test("a ledger of version 1 is refused with one sentence", () => {
  const old = (commits[0] ?? "").replace('{"v":2,', '{"v":1,');
  expect(() => decodeCommit(old)).toThrow("it is a ledger of version 1, which was never released");
});
