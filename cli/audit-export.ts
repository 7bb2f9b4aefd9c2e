// `remuda audit export` and `remuda audit sql`: the ledger's events for other programs, and SQL queries.
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { type Command, Option } from "commander";
import { Fault } from "../runtime/fault.ts";
import { columns, csvCell, csvOf, eventsIn, type Filter, type Found, rowOf } from "../services/audit/columns.ts";
import { decoded } from "../services/audit/history.ts";
import type { Moment } from "../services/audit/moment.ts";
import type { LedgerSource } from "../services/audit/source.ts";
import { openTables } from "../services/audit/tables.ts";
import { readType } from "./audit-events.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { print, printJson, Table } from "./output.ts";
import { type OnProgress, withProgress } from "./progress.ts";

type RangeOptions = AuditOptions & { from?: Moment; to?: Moment };
type ExportOptions = RangeOptions & { format: "ndjson" | "csv" | "parquet"; type?: string[]; output?: string };

export function addAuditExport(audit: Command, { readLedger }: AuditPorts): void {
  ledgerCommand(audit, "export", "the events as ndjson, csv or parquet, for other programs")
    .addOption(new Option("--format <format>", "of the output").choices(["ndjson", "csv", "parquet"]).default("ndjson"))
    .option("--output <file>", "in place of standard output; parquet needs one")
    .option("--from <moment>", "from here on", readMomentOption)
    .option("--to <moment>", "up to here", readMomentOption)
    .option("--type <type...>", "only events of these types, such as LeaseGranted", readType)
    .action(async (options: ExportOptions) => {
      const { format, output } = options;
      if (format === "parquet" && output === undefined) throw new Fault("fix-setup", "parquet needs --output <file>.");
      await readLedger(options, "reading", async (source, onProgress) => {
        const types = options.type === undefined ? undefined : new Set(options.type);
        const found = rangeOf(source, { ...options, types }, onProgress);
        if (output === undefined) return writeText(found, options, process.stdout);
        const aside = `${output}.part`;
        try {
          await (format === "parquet" ? writeParquet(found, aside) : writeFile(found, options, aside));
          await rename(aside, output);
        } catch (error) {
          await rm(aside, { force: true });
          throw error;
        }
      });
    });
}

export function addAuditSql(audit: Command, { withLedger }: AuditPorts): void {
  ledgerCommand(audit, "sql <select>", "ask the ledger in SQL: tables events, leases, uses, rests, refusals, proxies")
    .addOption(new Option("--csv", "rows as CSV").conflicts("json"))
    .option("--from <moment>", "only what was recorded from here on", readMomentOption)
    .option("--to <moment>", "and up to here", readMomentOption)
    .action(async (sql: string, options: RangeOptions & { csv?: true }) => {
      await withLedger(options, async (source) => {
        const tables = await withProgress({ what: "reading", size: await source.size() }, (onProgress) =>
          openTables(rangeOf(source, options, onProgress)),
        );
        try {
          const { names, rows } = await tables.query(sql);
          if (options.csv) print(names.map(csvCell).join(","));
          const table = new Table(names);
          let isEmpty = true;
          for await (const some of rows) {
            isEmpty &&= some.length === 0;
            if (options.json)
              for (const row of some) printJson(Object.fromEntries(names.map((name, i) => [name, row[i]])));
            else if (options.csv) for (const row of some) print(row.map(csvCell).join(","));
            else if (some.length > 0) table.print(some.map((row) => row.map(shown)));
            await drained(process.stdout);
          }
          if (isEmpty && !options.json && !options.csv) table.print([]);
        } finally {
          tables.close();
        }
      });
    });
}

function rangeOf(source: LedgerSource, filter: Filter, onProgress: OnProgress): AsyncIterable<Found[]> {
  return eventsIn(source, filter, { decode: (entry) => decoded(source, entry), onProgress });
}

async function writeText(
  found: AsyncIterable<Found[]>,
  { format }: ExportOptions,
  stream: NodeJS.WritableStream & { writableNeedDrain?: boolean },
): Promise<void> {
  if (format === "csv") stream.write(`${Object.keys(columns).join(",")}\r\n`);
  for await (const batch of found) {
    if (batch.length === 0) continue;
    const lines = batch.map((each) =>
      format === "csv" ? `${csvOf(rowOf(each))}\r\n` : `${JSON.stringify(eventOf(each))}\n`,
    );
    stream.write(lines.join(""));
    await drained(stream);
  }
}

async function writeFile(found: AsyncIterable<Found[]>, options: ExportOptions, path: string): Promise<void> {
  const file = createWriteStream(path, { mode: 0o600 });
  const failed = new Promise<never>((_resolve, reject) => {
    file.once("error", (cause: NodeJS.ErrnoException) =>
      reject(new Fault("fix-setup", `${path} cannot be written (${cause.code}).`, { cause })),
    );
  });
  const written = async (): Promise<void> => {
    await writeText(found, options, file);
    await new Promise<void>((resolve) => file.end(() => resolve()));
  };
  await Promise.race([written(), failed]);
}

async function writeParquet(found: AsyncIterable<Found[]>, path: string): Promise<void> {
  const tables = await openTables(found);
  try {
    await tables.toParquet(path);
  } finally {
    tables.close();
  }
}

/** The same form as `audit events --json`. */
function eventOf({ entry, commit, event }: Found): object {
  return { sequence: entry.seq, commit: commit.n, at: commit.at, ...event };
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

async function drained(stream: NodeJS.WritableStream & { writableNeedDrain?: boolean }): Promise<void> {
  if (stream.writableNeedDrain) await new Promise<void>((resolve) => stream.once("drain", () => resolve()));
}
