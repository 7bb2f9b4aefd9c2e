// The ledger for other programs: exported with the right types, and queried in SQL that cannot reach anything else.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, expect, test } from "vitest";
import { columns, csvCell, csvOf, eventsIn, type Found, rowOf } from "../../services/audit/columns.ts";
import { openTables, type Tables } from "../../services/audit/tables.ts";
import { verify } from "../../services/audit/verify.ts";
import { makeLedger, sourceOf } from "./ledgers.ts";

const policy = { rate: { limit: 5, windowMs: 5000 }, usage: { limit: 30, restMs: 5000 }, strategy: { kind: "best" } };
const ledger = makeLedger(300, {
  policy,
  chaos: 15,
  failures: 20,
  proxies: 6,
  names: true,
  startAt: 1_767_225_600_000,
});
const source = sourceOf(ledger);
const found = (filter: Parameters<typeof eventsIn>[1] = {}): AsyncIterable<Found[]> => eventsIn(source, filter);
let tables: Tables;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "remuda-tables-"));
  tables = await openTables(found());
});
afterAll(() => {
  tables.close();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(sql: string): Promise<unknown[][]> {
  const rows: unknown[][] = [];
  for await (const some of (await tables.query(sql)).rows) rows.push(...some);
  return rows;
}

test("counts in the tables what the verification counts", async () => {
  const report = await verify(source, {});
  expect(await ask("select count(*) from events")).toEqual([[report.events]]);
  expect(await ask("select count(*), sum(uses)::BIGINT from leases")).toEqual([
    [report.leases.granted, report.uses.granted],
  ]);
  expect(await ask("select count(*) from leases where closedAt is null")).toEqual([[report.leases.open]]);
  const outcomes = Object.fromEntries(await ask("select class, count(*) from uses group by class"));
  expect(outcomes).toEqual(report.uses.outcomes);
  const ended = Object.fromEntries(await ask("select how, count(*) from leases where how is not null group by how"));
  expect(ended).toEqual(report.leases.closed);
  const [[rests]] = (await ask("select count(*) from rests")) as [[number]];
  expect(rests).toBeGreaterThan(10);
  expect(await ask("select count(*) from rests where endedAt < beganAt or until < beganAt")).toEqual([[0]]);
  expect((await ask("select proxyId from proxies")).length).toBeGreaterThanOrEqual(6);
  expect(await ask("select count(*) from leases l anti join proxies p using (proxyId)")).toEqual([[0]]);
});

test("keeps figures and instants as they are: whole numbers, UTC, lists, maps", async () => {
  const [row] = await ask(
    "select recordedAt, commit, reasons from events where type = 'RestBegan' order by commit limit 1",
  );
  expect(row).toEqual([expect.stringMatching(/^2026-01-01T00:.*Z$/), expect.any(Number), expect.any(Array)]);
  expect(await ask("select labels['country'] from events where type = 'ProxyAdded' limit 1")).toEqual([["DE"]]);
  expect(await ask("select request->>'holder' = holder from leases where holder is not null limit 1")).toEqual([
    [true],
  ]);
});

test.each([
  ["select * from read_csv('/etc/passwd')", /disabled/],
  ["select * from read_text('/etc/passwd')", /disabled/],
  ["copy events to '/tmp/remuda-stolen.csv'", /disabled|read-only/],
  ["attach '/tmp/remuda-stolen.db' as other", /disabled|read-only/],
  ["install httpfs", /disabled|read-only/],
  ["select * from 'https://192.0.2.1/x.parquet'", /disabled|Catalog|does not exist/],
  ["set memory_limit = '100GB'", /read-only|locked/],
  ["reset enable_external_access", /read-only|locked|configuration/],
  ["drop table events", /read-only/],
  ["insert into events (commit) values (1)", /read-only/],
  ["select 1; select 2", /Give one/],
  ["", /Give one/],
  ["selekt 1", /syntax error/],
  ["select nothing from events", /nothing/],
])("refuses %s in a sentence", async (sql, why) => {
  await expect(ask(sql)).rejects.toThrow(why);
  await expect(ask(sql)).rejects.toMatchObject({ code: "fix-setup" });
});

test("writes a parquet file that DuckDB opens with the right types, with every event", async () => {
  const path = join(folder, "it's.parquet");
  const fresh = await openTables(found());
  await fresh.toParquet(path);
  fresh.close();
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  const quoted = path.replaceAll("'", "''");
  const described = await (await connection.run(`describe select * from '${quoted}'`)).getRowsJS();
  const types = Object.fromEntries(described.map(([name, type]) => [name, type]));
  expect(types).toEqual({ ...columns, ...Object.fromEntries(jsonColumns().map((name) => [name, types[name]])) });
  for (const name of jsonColumns()) expect(["JSON", "VARCHAR"]).toContain(types[name]);
  expect(types).toMatchObject({
    recordedAt: "TIMESTAMP",
    reasons: "VARCHAR[]",
    count: "BIGINT",
    labels: "MAP(VARCHAR, VARCHAR)",
  });
  const sum = await connection.run(`select count(*), min(recordedAt) from '${quoted}'`);
  const [[count, first] = []] = await sum.getRowsJS();
  expect(count).toBe(BigInt((await verify(source, {})).events));
  expect(first).toEqual(new Date(1_767_225_600_000));
  connection.closeSync();
  instance.closeSync();
});

test("filters events by range and type", async () => {
  const all: Found[] = [];
  const types = new Set(["LeaseGranted"]);
  for await (const batch of found({ from: { sequence: 100 }, to: { sequence: 200 }, types })) all.push(...batch);
  expect(all.length).toBeGreaterThan(10);
  expect(
    all.every(({ event, entry }) => event["type"] === "LeaseGranted" && entry.seq >= 100 && entry.seq <= 200),
  ).toBe(true);
});

test("gives a row of CSV a cell for every column, quoted if necessary", async () => {
  const event = { type: "ProxyRetired", proxyId: "p_1", state: "retired", reason: 'gone, "for good"' };
  const commit = { v: 2, n: 7, prev: "", term: 1, at: 1_767_225_600_000, cursor: { seq: 0, at: 0 }, events: [event] };
  const entry = { seq: 9, storedAt: 0, line: 0, bytes: Buffer.alloc(0) };
  const line = csvOf(rowOf({ entry, commit, event, place: 0 }));
  expect(line).toMatch(/^9,7,0,2026-01-01T00:00:00.000Z,1,ProxyRetired,p_1,,retired,/);
  expect(line).toContain('"gone, ""for good"""');
  expect(["a", 'say "hi"', "a\nb", "a\rb", "a,b", "", null, ["x"]].map(csvCell)).toEqual([
    "a",
    '"say ""hi"""',
    '"a\nb"',
    '"a\rb"',
    '"a,b"',
    "",
    "",
    '"[""x""]"',
  ]);
  expect(line.replace(/"[^"]*(""[^"]*)*"/g, "").split(",")).toHaveLength(Object.keys(columns).length);
});

test("writes no cell that a spreadsheet takes for a formula, and leaves numbers alone", () => {
  expect(["=1+2", "+a", "-x", "@SUM(A1)", "\t=1", "\r=1", "a=1", "'=1"].map(csvCell)).toEqual([
    ...["'=1+2", "'+a", "'-x", "'@SUM(A1)", "'\t=1", '"\'\r=1"', "a=1", "'=1"],
  ]);
  expect([-5, 7n, "-5", "-2.5e-7", "+1", true].map(csvCell)).toEqual(["-5", "7", "-5", "-2.5e-7", "+1", "true"]);
});

test("keeps unknown fields", () => {
  const event = { type: "NewlyInvented", inert: true, colour: "blue" };
  const commit = { v: 2, n: 1, prev: "", term: 1, at: 0, cursor: { seq: 0, at: 0 }, events: [event] };
  const row = rowOf({ entry: { seq: 0, storedAt: 0, line: 1, bytes: Buffer.alloc(0) }, commit, event, place: 0 });
  expect(row).toMatchObject({ type: "NewlyInvented", inert: true, other: { colour: "blue" } });
});

test("leaves nothing behind in the folder for temporary files", async () => {
  const ours = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith("remuda-audit-"));
  const before = new Set(ours());
  const one = await openTables(found({ types: new Set(["PoolOpened"]) }));
  const made = ours().filter((name) => !before.has(name));
  one.close();
  expect(ours().filter((name) => made.includes(name)).length).toBeLessThan(Math.max(1, made.length));
});

function jsonColumns(): string[] {
  return Object.entries(columns).flatMap(([name, type]) => (type === "JSON" ? [name] : []));
}
