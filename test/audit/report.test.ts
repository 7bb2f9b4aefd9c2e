// The page: one file, whatever the ledger's size, that asks nothing of a network and says what the ledger says.
import { expect, test } from "vitest";
import { gather } from "../../services/audit/report/gather.ts";
import { pageOf } from "../../services/audit/report/page.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

const policy = { rate: { limit: 6, windowMs: 5000 }, usage: { limit: 40, restMs: 5000 }, strategy: { kind: "best" } };
const options = { policy, chaos: 5, failures: 15, proxies: 6 };

test("the sums over time are the sums of the verification", async () => {
  const source = sourceOf(makeLedger(500, options));
  const [report, verified] = [await gather(source, {}), await verify(source, {})];
  const sumOf = (of: (point: (typeof report.points)[number]) => number): number =>
    report.points.reduce((sum, point) => sum + of(point), 0);
  expect(report.points.length).toBeLessThanOrEqual(240);
  expect(report.points.length).toBeGreaterThan(100);
  expect(sumOf(({ granted }) => granted)).toBe(verified.leases.granted);
  expect(sumOf(({ outcomes }) => outcomes["success"] ?? 0)).toBe(verified.uses.outcomes["success"]);
  expect(sumOf(({ ended }) => ended["completed"] ?? 0)).toBe(verified.leases.closed["completed"]);
  expect(report.points.at(-1)).toMatchObject({ openLeases: verified.leases.open });
  expect(report.peaks.count).toBe(verified.peaks.length);
  expect(report.head).toBe(verified.head);
});

test("the page needs no network and is of one size, however long the ledger", async () => {
  const short = pageOf(await gather(sourceOf(makeLedger(1000, options)), {}));
  const long = pageOf(await gather(sourceOf(makeLedger(4000, options)), {}));
  for (const page of [short, long]) {
    expect(page).not.toMatch(/<script|https?:|\bsrc=|\bhref=|url\(|@import/i);
    expect(page).toContain("default-src 'none'");
    expect(page).toContain("found nothing wrong");
    for (const title of ["Proxies by state", "Outcomes", "Rests begun, by reason", "Maxima against limits"]) {
      expect(page).toContain(`<h2>${title}</h2>`);
    }
  }
  expect(long.length).toBeLessThan(short.length * 1.5);
  expect(long.length).toBeLessThan(600_000);
});

test("what others named is text in it, and what is wrong is said", async () => {
  const ledger = makeLedger(100, options);
  const { index, place } = findEvent(ledger, (event) => event["type"] === "LeaseGranted", 50);
  const forged = forge(ledger, index, (commit) =>
    Object.assign(commit.events[place] as object, { strategy: "<b>lot</b>" }),
  );
  const page = pageOf(await gather(sourceOf(forged), {}));
  expect(page).toMatch(/found \d+ things? wrong/);
  expect(page).not.toContain("<b>");
  expect(page).toContain("&#60;b&#62;");
});

test("a range in the middle has its own commits alone", async () => {
  const source = sourceOf(makeLedger(400, options));
  const report = await gather(source, { from: { sequence: 201 }, to: { sequence: 400 } });
  expect(report.commits).toEqual({ first: 101, last: 200, count: 100 });
});
