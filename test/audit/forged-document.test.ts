// Ledgers that were altered: changed, missing, inserted, exchanged or cut-off commits are reported with their place.
import { expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Rule } from "../../services/audit/checker/finding.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, findingsIn, forge, makeLedger, sourceOf } from "./ledgers.ts";

const ledger = makeLedger(600, { chaos: 0, failures: 20, proxies: 6 });

test("finds a changed byte by the next commit, and reports the place of the changed one", async () => {
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

test("reports a deleted commit at its place", async () => {
  const [first] = await findingsIn(ledger.toSpliced(299, 1));
  expect(first).toMatchObject({ rule: "number", n: 301, what: "expected commit 300, found 301 (1 missing)" });
});

test("reports a missing first commit", async () => {
  const [first] = await findingsIn(ledger.slice(1));
  expect(first).toMatchObject({ rule: "number", n: 2, what: "expected commit 1, found 2 (1 missing)" });
});

test("reports a swapped pair at its place", async () => {
  const findings = await findingsIn(ledger.with(299, ledger[300]!).with(300, ledger[299]!));
  expect(findings[0]).toMatchObject({ rule: "number", n: 301, sequence: 600 });
  const second = { rule: "number", n: 300, sequence: 602, afterDamage: true };
  expect(findings).toContainEqual(expect.objectContaining(second));
});

test("reports a forged commit between two at its place", async () => {
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

test("reports bytes that are not a commit, and reads what follows", async () => {
  const findings = await findingsIn(ledger.with(299, Buffer.from("not a commit")));
  expect(findings[0]).toMatchObject({ rule: "unreadable", n: 300, sequence: 600 });
  expect(findings.some(({ rule, n }) => rule === "chain" && n === 300)).toBe(true);
});

test("detects a cut-off tail only with a head kept elsewhere", async () => {
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

test("detects a rewritten history with a head kept elsewhere", async () => {
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
  ["a term that no leader claimed", "term", (commit) => Object.assign(commit, { term: 7 })],
  ["an event is of no known type", "unknown-event", (commit) => commit.events.push({ type: "ProxyBlessed" })],
])("%s: reported at its commit", async (_what, rule, change) => {
  const findings = await findingsIn(forge(ledger, 299, change));
  expect(findings.find((finding) => finding.rule === rule)).toMatchObject({ n: 300, sequence: 600 });
});

test("tells which version wrote an event that is not known here", async () => {
  const forged = forge(ledger, 299, (commit) => {
    commit.term++;
    const claim = { type: "LeaderClaimed", leader: "newer", term: commit.term, version: "9.8.7" };
    commit.events = [claim, { type: "ProxyBlessed" }];
  });
  expect((await findingsIn(forged)).map(({ what }) => what)).toContain(
    'an event of the type "ProxyBlessed" is not known here, and version 9.8.7 of Remuda wrote it: nothing after it can be checked',
  );
});

test("accepts an unknown event that is marked as inert", async () => {
  expect(await findingsIn(forge(ledger, 299, (commit) => commit.events.push({ type: "Remark", inert: true })))).toEqual(
    [],
  );
});

test("notes another broker's sequences after a crash, without a finding, if the time moves on", async () => {
  const forged = forge(ledger, 599, (commit) => Object.assign(commit, { cursor: { seq: 1, at: commit.at } }));
  const report = await verify(sourceOf(forged), {});
  expect(report).toMatchObject({ isWell: true, notices: [{ rule: "cursor", n: 600 }] });
});
