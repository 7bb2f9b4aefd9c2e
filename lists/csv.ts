// A table of proxies: a header that names the columns, then a row per proxy. How a row is cut into cells (quotes, escapes) is a
// library's business, given by the caller: the core imports none.
// A quoted cell may hold line breaks; one quote that never closes must not swallow the list, so only a few lines are held for it.

import { areColumns, type FieldsReading, fieldName, fieldsOf, readFields } from "./fields.ts";

/** The cells of one row; "unclosed" if a quote is open at its end, "broken" if it cannot be read at all. Never throws. */
export type SplitRow = (row: string, delimiter: string) => readonly string[] | "unclosed" | "broken";

export interface Header {
  readonly delimiter: string;
  readonly columns: readonly string[];
}

/** `isDamaged`: the row has characters that were no UTF-8. */
export type RowReading = FieldsReading & { line: number; isDamaged: boolean };

const delimiters = [",", ";", "\t"];
const rowLinesMax = 16;
/** Characters: dozens of columns, also long ones. */
export const rowLengthMax = 65_536;

/** The header that a line is, or undefined if it names no columns of proxies. */
export function readHeader(line: string, splitRow: SplitRow): Header | undefined {
  if (line.length > rowLengthMax) return undefined;
  for (const delimiter of delimiters) {
    const cells = line.includes(delimiter) ? splitRow(line, delimiter) : [];
    if (typeof cells !== "string" && areColumns(cells)) return { delimiter, columns: cells };
  }
  return undefined;
}

export class CsvReader {
  readonly #header: Header;
  readonly #splitRow: SplitRow;
  readonly #mayHaveComments: boolean;
  #held: { line: number; text: string }[] = [];

  constructor(header: Header, splitRow: SplitRow) {
    this.#header = header;
    this.#splitRow = splitRow;
    // A line that begins with "#" is a comment, unless a user name or password may begin so.
    this.#mayHaveComments = !/user|login|pass|pwd/.test(fieldName(header.columns[0] ?? ""));
  }

  /** The rows that are complete with this line; mostly one. */
  read(line: number, text: string): RowReading[] {
    const isSkipped = text.trim() === "" || (this.#mayHaveComments && text.trimStart().startsWith("#"));
    if (isSkipped && this.#held.length === 0) return [];
    this.#held.push({ line, text });
    return this.#settle({ isEnd: false });
  }

  end(): RowReading[] {
    return this.#settle({ isEnd: true });
  }

  #settle({ isEnd }: { isEnd: boolean }): RowReading[] {
    const readings: RowReading[] = [];
    for (let [head, ...rest] = this.#held; head !== undefined; [head, ...rest] = this.#held) {
      const row = this.#held.map(({ text }) => text).join("\n");
      const isLong = row.length > rowLengthMax;
      const cells = isLong ? "broken" : this.#splitRow(row, this.#header.delimiter);
      if (cells === "unclosed" && !isEnd && this.#held.length < rowLinesMax) break;
      const whole = typeof cells === "string" ? undefined : this.#readCells(cells);
      this.#held = [];
      const { line } = head;
      if (whole === "empty") continue;
      if (whole !== undefined && (whole.ok || rest.length === 0))
        readings.push({ ...whole, line, isDamaged: row.includes("\uFFFD") });
      else {
        const isTooLong = head.text.length > rowLengthMax;
        const why = isTooLong
          ? `is longer than ${rowLengthMax} characters`
          : "has a quote that is not closed, or not escaped";
        readings.push({ ok: false, line, isDamaged: false, input: "***", why });
        // The quote was no quote: the lines that were held for it are rows of their own.
        for (const each of rest) readings.push(...this.read(each.line, each.text));
      }
    }
    return readings;
  }

  #readCells(cells: readonly string[]): FieldsReading | "empty" {
    const { columns } = this.#header;
    const count = cells.findLastIndex((cell) => cell !== "") + 1;
    if (count === 0) return "empty";
    if (count > columns.length) {
      const why = `has ${count} fields where the header has ${columns.length} (quote a field that holds a delimiter)`;
      return { ok: false, input: "***", why };
    }
    return readFields(fieldsOf(columns.map((name, column) => [name, cells[column]])));
  }
}
