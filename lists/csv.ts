// A table of proxies: a header that names the columns, then a row per proxy. Cells are quoted as RFC 4180 says, but
// some vendors escape a quote with a backslash. A row is read in both ways. If both give a row of this table and they
// differ, the row is rejected. A quoted cell may hold line breaks. A quote that never closes must not swallow the list,
// so only a few lines are held back for it.

import type { Scheme } from "../events/proxy.ts";
import { areColumns, type FieldsReading, readRow } from "./fields.ts";
import { fieldName, isEmpty } from "./named.ts";

export interface Header {
  readonly delimiter: string;
  readonly columns: readonly string[];
}

export interface RowReading {
  line: number;
  /** The row has characters that were not valid UTF-8. */
  isDamaged: boolean;
  reading: FieldsReading;
}

const delimiters = [",", ";", "\t"];
const rowLinesMax = 16;
/**
 * Rows with a quote that is never closed. After this many, every line is a row. Otherwise such rows would cost 16 times
 * their size.
 */
const unclosedMax = 100;
/** A row may have as many cells. */
const columnsMax = 256;
/** In characters: enough for dozens of columns, even long ones. */
export const rowLengthMax = 65_536;

const unclosed = "has a quote that is not closed, or not escaped";

/** The header in this line. Undefined if the line names no columns of proxies. */
export function readHeader(line: string): Header | undefined {
  if (line.length > rowLengthMax) return undefined;
  for (const delimiter of delimiters) {
    const cells = line.includes(delimiter) ? splitRow(line, { delimiter, escape: '"' }) : "broken";
    if (typeof cells !== "string" && cells.length <= columnsMax && areColumns(cells))
      return { delimiter, columns: cells };
  }
  return undefined;
}

/** The cells of one row, trimmed. "broken": there is text between a closing quote and a delimiter. */
function splitRow(row: string, how: { delimiter: string; escape: '"' | "\\" }): string[] | "unclosed" | "broken" {
  const { delimiter, escape } = how;
  if (!row.includes('"')) return row.split(delimiter).map((cell) => cell.trim());
  const cells: string[] = [];
  for (let at = 0; at <= row.length; at += 1) {
    while (row[at] !== delimiter && /\s/.test(row[at] ?? "")) at += 1;
    let end = row.indexOf(delimiter, at);
    if (end < 0) end = row.length;
    if (row[at] !== '"') {
      const cell = row.slice(at, end).trim();
      if (escape === "\\" && cell.includes('"')) return "broken";
      cells.push(cell);
    } else {
      let cell = "";
      let from = at + 1;
      let quote = row.indexOf('"', from);
      const isEscaped = (): boolean => (escape === '"' ? row[quote + 1] === '"' : row[quote - 1] === "\\");
      while (quote >= 0 && quote >= from && isEscaped()) {
        cell += `${row.slice(from, escape === '"' ? quote : quote - 1)}"`;
        from = escape === '"' ? quote + 2 : quote + 1;
        quote = row.indexOf('"', from);
      }
      if (quote < 0) return "unclosed";
      cells.push(cell + row.slice(from, quote));
      end = quote + 1;
      while (row[end] !== delimiter && /\s/.test(row[end] ?? "")) end += 1;
      if (end < row.length && row[end] !== delimiter) return "broken";
    }
    at = end;
  }
  return cells;
}

export class CsvReader {
  readonly #header: Header;
  readonly #names: readonly string[];
  readonly #scheme: Scheme;
  readonly #mayHaveComments: boolean;
  #unclosed = 0;
  #held: { line: number; text: string }[] = [];

  constructor(header: Header, scheme: Scheme) {
    this.#header = header;
    this.#names = header.columns.map(fieldName);
    this.#scheme = scheme;
    // A line that begins with "#" is a comment, unless a user name or password may begin with it.
    this.#mayHaveComments = !/user|login|pass|pwd/.test(this.#names[0] ?? "");
  }

  /** The rows that are complete with this line, usually one. */
  read(line: number, text: string): RowReading[] {
    if (this.#held.length === 0) {
      if (text.trim() === "" || (this.#mayHaveComments && text.trimStart().startsWith("#"))) return [];
      const row = text.includes('"') ? "unclosed" : this.#readRow(text);
      if (row !== "unclosed") return row.map((reading) => ({ line, isDamaged: text.includes("\uFFFD"), reading }));
    }
    this.#held.push({ line, text });
    const mayClose = this.#held.length === 1 || text.includes('"') || this.#held.length >= this.#linesMax;
    return mayClose ? this.#settle({ isEnd: false }) : [];
  }

  get #linesMax(): number {
    return this.#unclosed > unclosedMax ? 1 : rowLinesMax;
  }

  end(): RowReading[] {
    return this.#settle({ isEnd: true });
  }

  #settle({ isEnd }: { isEnd: boolean }): RowReading[] {
    const readings: RowReading[] = [];
    for (let [head, ...rest] = this.#held; head !== undefined; [head, ...rest] = this.#held) {
      const row = this.#held.map(({ text }) => text).join("\n");
      const whole = this.#readRow(row);
      if (whole === "unclosed" && !isEnd && this.#held.length < this.#linesMax && row.length <= rowLengthMax) break;
      this.#held = [];
      const { line } = head;
      const isRow = whole !== "unclosed" && (rest.length === 0 || whole.every(({ ok }) => ok));
      if (isRow) readings.push(...whole.map((reading) => ({ line, isDamaged: row.includes("\uFFFD"), reading })));
      else {
        this.#unclosed += 1;
        const why = head.text.length > rowLengthMax ? `is longer than ${rowLengthMax} characters` : unclosed;
        readings.push({ line, isDamaged: false, reading: { ok: false, input: "***", why } });
        // The quote did not open a cell. The lines that were held for it are separate rows.
        for (const each of rest) readings.push(...this.read(each.line, each.text));
      }
    }
    return readings;
  }

  #readRow(row: string): FieldsReading[] | "unclosed" {
    if (row.length > rowLengthMax) return "unclosed";
    const { columns, delimiter } = this.#header;
    const plain = splitRow(row, { delimiter, escape: '"' });
    const ways = row.includes('\\"') ? [plain, splitRow(row, { delimiter, escape: "\\" })] : [plain];
    const rows = ways.filter((each) => typeof each !== "string");
    const [cells, other] = rows.filter((each) => widthOf(each) <= columns.length);
    if (cells === undefined) {
      if (ways.includes("unclosed")) return "unclosed";
      const [wide] = rows;
      if (wide === undefined) return refused(unclosed);
      return refused(
        `has ${widthOf(wide)} fields where the header has ${columns.length} (quote a field that holds a delimiter)`,
      );
    }
    if (other !== undefined && cells.join("\n") !== other.join("\n"))
      return refused('has quotes that could be escaped as "" or as \\" (write "")');
    if (widthOf(cells) === 0) return [];
    const fields = new Map<string, unknown>();
    cells.forEach((cell, column) => {
      const name = this.#names[column];
      if (name !== undefined && isEmpty(fields.get(name))) fields.set(name, cell);
    });
    return readRow(fields, this.#scheme);
  }
}

function refused(why: string): FieldsReading[] {
  return [{ ok: false, input: "***", why }];
}

function widthOf(cells: readonly string[]): number {
  return cells.findLastIndex((cell) => cell !== "") + 1;
}
