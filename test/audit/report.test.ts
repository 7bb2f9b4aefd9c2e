// The report page: one file of bounded size that needs no network and shows the ledger's figures.
import { expect, test } from "vitest";
import { gather } from "../../services/audit/report/gather.ts";
import { pageOf } from "../../services/audit/report/page.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, forge, makeLedger, sourceOf } from "./ledgers.ts";

const policy = { rate: { limit: 6, windowMs: 5000 }, usage: { limit: 40, restMs: 5000 }, strategy: { kind: "best" } };
const options = { policy, chaos: 5, failures: 15, proxies: 6 };

test("has sums over time that equal those of the verification", async () => {
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

test("makes a page of bounded size without network access, however long the ledger", async () => {
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

test("shows untrusted names as text, and reports what is wrong", async () => {
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

test("escapes names that contain markup: exits, pools, reasons", async () => {
  const exit = `<script>alert("1")</script>'&`;
  const ledger = makeLedger(60, options);
  const text = ledger.map((bytes) =>
    bytes.toString().replaceAll('"exit":"10.0.0.1"', `"exit":${JSON.stringify(exit)}`),
  );
  const labelled = text.map((commit) =>
    Buffer.from(commit.replace(/("exit":"<script>[^}]*"labels":\{)/g, `$1"exit":${JSON.stringify(exit)},`)),
  );
  const page = pageOf(await gather(sourceOf(forge(labelled, 0, () => {})), {}));
  expect(page).toContain("&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62;&#39;&#38;");
  expect(page).not.toMatch(/<script/i);
});

test("makes a page for a pool in which nothing has happened", async () => {
  const page = pageOf(await gather(sourceOf(makeLedger(1, { proxies: 0 })), {}));
  expect(page).toContain("Nothing is recorded.");
  expect(page).toContain("found nothing wrong");
  expect(page).not.toMatch(/NaN|undefined|Infinity/);
});

test("includes only the commits of a range in the middle", async () => {
  const source = sourceOf(makeLedger(400, options));
  const report = await gather(source, { from: { sequence: 201 }, to: { sequence: 400 } });
  expect(report.commits).toEqual({ first: 101, last: 200, count: 100 });
});
