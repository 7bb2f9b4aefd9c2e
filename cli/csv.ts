// How a row of CSV is cut into cells: RFC 4180, with white space around cells, and quotes within an unquoted cell taken as they are.
// One row at a time, so that a list may be of any size and a broken row costs itself alone.
import { CsvError, parse } from "csv-parse/sync";
import type { SplitRow } from "../lists/csv.ts";

export const splitRow: SplitRow = (row, delimiter) => {
  try {
    const rows = parse(row, {
      delimiter,
      record_delimiter: "\n",
      trim: true,
      relax_quotes: true,
      relax_column_count: true,
    });
    const [cells] = rows;
    return rows.length === 1 && cells !== undefined ? cells : "broken";
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    return error.code === "CSV_QUOTE_NOT_CLOSED" ? "unclosed" : "broken";
  }
};
