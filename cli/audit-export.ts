// `remuda audit export` and `remuda audit sql`: the ledger's events for other programs, and SQL queries.
import { type Command, Option } from "commander";
import { Fault } from "../runtime/fault.ts";
import { writeWhole } from "../runtime/whole-file.ts";
import { columns, csvCell, csvOf, documentOf, eventsIn, type Found, rowOf } from "../services/audit/columns.ts";
import { openTables } from "../services/audit/tables.ts";
import { readType } from "./audit-events.ts";
import { type AuditOptions, type AuditPorts, rangeCommand } from "./audit-options.ts";
import { writing } from "./files.ts";
import { print, Table, toStdout } from "./output.ts";

type ExportOptions = AuditOptions & { format: "ndjson" | "csv" | "parquet"; type?: string[]; output?: string };

export function addAuditExport(audit: Command, { readLedger }: AuditPorts): void {
  rangeCommand(audit, "export", "write the events as ndjson, csv or parquet, for other programs")
    .addOption(
      new Option("--format <format>", "the format of the output")
        .choices(["ndjson", "csv", "parquet"])
        .default("ndjson"),
    )
    .option("--output <file>", "write to this file instead of the standard output; parquet needs one")
    .option("--type <type...>", "only events of these types, such as LeaseGranted", readType)
    .action(async (options: ExportOptions) => {
      const { format, output } = options;
      if (format === "parquet" && output === undefined)
        throw new Fault("fix-setup", "--output is missing. Parquet needs a file: --output <file>.");
      await readLedger(options, "reading", async (source, onProgress) => {
        const types = options.type === undefined ? undefined : new Set(options.type);
        const found = eventsIn(source, { ...options, types }, { onProgress });
        if (format !== "parquet" || output === undefined)
          return writing(output, (write) => writeText(found, format, write));
        await writeWhole(output, async (_file, part) => {
          const tables = await openTables(found);
          try {
            await tables.toParquet(part);
          } finally {
            tables.close();
          }
        });
      });
    });
}

export function addAuditSql(audit: Command, { readLedger }: AuditPorts): void {
  rangeCommand(audit, "sql <select>", "query the tables events, leases, uses, rests, refusals and proxies in SQL")
    .addOption(new Option("--csv", "print the rows as CSV").conflicts("json"))
    .action(async (sql: string, options: AuditOptions & { csv?: true }) => {
      const tables = await readLedger(options, "reading", (source, onProgress) =>
        openTables(eventsIn(source, options, { onProgress })),
      );
      try {
        const { names, rows } = await tables.query(sql);
        const lineOf = (row: unknown[]): string =>
          options.csv
            ? row.map(csvCell).join(",")
            : JSON.stringify(Object.fromEntries(names.map((name, i) => [name, row[i]])));
        if (options.csv) print(names.map(csvCell).join(","));
        const table = new Table(names);
        let isEmpty = true;
        for await (const some of rows) {
          isEmpty &&= some.length === 0;
          if (options.json || options.csv) await toStdout(some.map((row) => `${lineOf(row)}\n`).join(""));
          else if (some.length > 0) table.print(some.map((row) => row.map(shown)));
        }
        if (isEmpty && !options.json && !options.csv) table.print([]);
      } finally {
        tables.close();
      }
    });
}

async function writeText(
  found: AsyncIterable<Found[]>,
  format: ExportOptions["format"],
  write: (text: string) => Promise<void>,
): Promise<void> {
  const isCsv = format === "csv";
  if (isCsv) await write(`${Object.keys(columns).join(",")}\r\n`);
  for await (const batch of found) {
    const lines = batch.map((each) => (isCsv ? `${csvOf(rowOf(each))}\r\n` : `${JSON.stringify(documentOf(each))}\n`));
    if (lines.length > 0) await write(lines.join(""));
  }
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
