// Events as rows. Each field of any event has a column. The fields of a later version are in the column `other`. `at`
// is an SQL keyword, so the commit's time is called `recordedAt` here.
import type { CommitEnvelope } from "../../events/commit.ts";
import { eventSchemas } from "../../events/event.ts";
import { fieldsOf, type Kind } from "../../events/field.ts";
import { Fault } from "../../runtime/fault.ts";
import { decoded, placeOf } from "./history.ts";
import { isAfter, isBefore, type Moment } from "./moment.ts";
import type { Entry, LedgerSource } from "./source.ts";

export type ColumnType =
  | "BIGINT"
  | "INTEGER"
  | "TIMESTAMP"
  | "VARCHAR"
  | "BOOLEAN"
  | "VARCHAR[]"
  | "MAP(VARCHAR, VARCHAR)"
  | "JSON";

const columnOf: Record<Extract<Kind, string>, ColumnType> = {
  text: "VARCHAR",
  masked: "VARCHAR",
  instant: "TIMESTAMP",
  whole: "BIGINT",
  int32: "INTEGER",
  count: "BIGINT",
  number: "BIGINT",
  port: "INTEGER",
  true: "BOOLEAN",
  texts: "VARCHAR[]",
  labels: "MAP(VARCHAR, VARCHAR)",
  figures: "JSON",
  document: "JSON",
  limits: "JSON",
  request: "JSON",
};

/** Fields of a lease request that have columns of their own. */
const requested = ["requestId", "session", "holder"] as const;

/** In the order of the table. An instant is epoch milliseconds in a row, and a TIMESTAMP (UTC) in the table. */
export const columns: Readonly<Record<string, ColumnType>> = {
  sequence: "BIGINT",
  commit: "BIGINT",
  place: "INTEGER",
  recordedAt: "TIMESTAMP",
  term: "INTEGER",
  type: "VARCHAR",
  proxyId: "VARCHAR",
  leaseId: "VARCHAR",
  state: "VARCHAR",
  ...Object.fromEntries(requested.map((name) => [name, "VARCHAR" as const])),
  ...Object.fromEntries(Object.values(eventSchemas).flatMap(columnsOf)),
  other: "JSON",
};
export type Row = Record<string, unknown>;

function columnsOf(schema: Parameters<typeof fieldsOf>[0]): [name: string, type: ColumnType][] {
  return fieldsOf(schema).map(({ name, kind }) => [name, typeof kind === "string" ? columnOf[kind] : "VARCHAR"]);
}

export interface Filter {
  from?: Moment | undefined;
  to?: Moment | undefined;
  /** Only these types of events. */
  types?: ReadonlySet<string> | undefined;
}

export interface Found {
  entry: Entry;
  commit: CommitEnvelope;
  event: Record<string, unknown>;
  /** Of the event in its commit, from 0. */
  place: number;
}

/**
 * The events in a range, one batch of the source at a time.
 * @param given.follow also the events to come, until aborted.
 * @throws Fault "stop-damaged" if an entry is not a commit.
 */
export async function* eventsIn(
  source: LedgerSource,
  { from, to, types }: Filter,
  given: { follow?: AbortSignal | undefined; onProgress?: ((done: number) => void) | undefined } = {},
): AsyncIterable<Found[]> {
  const after = { seq: from !== undefined && "sequence" in from ? Math.max(0, from.sequence - 1) : 0 };
  const batches = given.follow === undefined ? source.read(after) : source.follow?.(after, given.follow);
  if (batches === undefined) throw new Fault("fix-setup", "--follow: a file does not grow. Leave --follow out.");
  for await (const batch of batches) {
    const found: Found[] = [];
    for (const entry of batch) {
      const commit = decoded(source, entry);
      const moment = { at: commit.at, sequence: placeOf(entry, commit) };
      if (to !== undefined && isAfter(to, moment)) {
        yield found;
        return;
      }
      if (from !== undefined && isBefore(from, moment)) continue;
      for (const [place, each] of commit.events.entries()) {
        const event = each as Record<string, unknown>; // The fields of any event.
        if (types === undefined || types.has(String(event["type"]))) found.push({ entry, commit, event, place });
      }
    }
    given.onProgress?.(source.done);
    yield found;
  }
}

/** An event with its place, as `audit events --json` and `audit export` write it. */
export function documentOf({ entry, commit, event }: Found): object {
  return { sequence: entry.seq, commit: commit.n, at: commit.at, ...event };
}

export function rowOf({ entry, commit, event, place }: Found): Row {
  const row: Row = {
    sequence: entry.seq === 0 ? undefined : entry.seq,
    commit: commit.n,
    place,
    recordedAt: commit.at,
    term: commit.term,
  };
  let other: Record<string, unknown> | undefined;
  for (const name in event) {
    if (Object.hasOwn(columns, name) && !(name in row)) row[name] = event[name];
    else {
      other ??= {};
      other[name] = event[name];
    }
  }
  const request = event["request"] as Row | undefined;
  if (request !== undefined) for (const name of requested) if (request[name] !== undefined) row[name] = request[name];
  if (other !== undefined) row["other"] = other;
  return row;
}

/** RFC 4180. Instants in ISO 8601, lists and documents as JSON. */
export function csvOf(row: Row): string {
  return Object.entries(columns)
    .map(([name, type]) => csvCell(type === "TIMESTAMP" ? isoOf(row[name]) : row[name]))
    .join(",");
}

/** Whether a spreadsheet would take the text for a formula (OWASP: CSV injection). A number is not a formula. */
function isFormula(text: string): boolean {
  return /^[=+\-@\t\r\n]/.test(text) && !/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text);
}

/** A cell that would be a formula begins with an apostrophe. */
export function csvCell(value: unknown): string {
  if (value === undefined || value === null) return "";
  const plain = typeof value === "object" ? JSON.stringify(value) : String(value);
  const text = typeof value === "string" && isFormula(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function isoOf(value: unknown): string | undefined {
  return typeof value === "number" && Math.abs(value) <= 8.64e15 ? new Date(value).toISOString() : undefined;
}
