// A command's output: the service's JSON with --json, otherwise lines for people, which scripts can cut too.
import { printable, showInstant } from "../runtime/text.ts";
import { type Colour, painted } from "./colour.ts";

const gap = "  ";

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function printJson(document: unknown): void {
  print(JSON.stringify(document));
}

/** With --json the answer as it came, otherwise its fields. */
export function printReply({ json }: { json?: true }, reply: object): void {
  if (json) printJson(reply);
  else printFields(reply);
}

/** Waits until the reader has room, so that output does not pile up in memory. */
export function toStdout(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()));
}

/** A reader that closes the pipe (`| head`) ends the command without an error. A full disk is an error. */
export function endWithReader(): void {
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") process.exit(0);
    process.stderr.write(`remuda: the standard output cannot be written (${code})\n`);
    process.exit(2);
  });
  // If no message can be written, the exit code still reports the failure.
  process.stderr.on("error", () => {});
}

/**
 * One line per field, under the names of the protocol: `expiresAt  2026-01-31T12:00:00.000Z`. Nested names have dots.
 */
export function printFields(fields: object): void {
  const rows = flatten(fields, "");
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  for (const [name, value] of rows) print(`${painted(name.padEnd(width), "dim")}  ${value}`.trimEnd());
}

function flatten(fields: object, prefix: string): [name: string, value: string][] {
  return Object.entries(fields).flatMap(([key, value]: [string, unknown]): [string, string][] => {
    const name = prefix + printable(key);
    if (typeof value !== "object" || value === null) return [[name, showField(key, value)]];
    if (Array.isArray(value) && value.every((each) => typeof each !== "object")) {
      return [[name, value.map((each) => printable(String(each))).join(" ")]];
    }
    return flatten(value, `${name}.`);
  });
}

export function showField(key: string, value: unknown): string {
  if (typeof value === "number" && /(At|until)$/i.test(key)) return showInstant(value);
  return printable(String(value));
}

/**
 * The columns of a list. Widths only grow, so that later pages stay aligned. On a terminal no line wraps: it is cut,
 * and ends with `…`.
 */
export class Table {
  readonly #names: readonly string[];
  readonly #widths: number[];
  readonly #colourOf: Partial<Record<string, (cell: string) => Colour | undefined>>;
  #begun = false;

  /** @param colourOf by the name of the column. */
  constructor(names: readonly string[], colourOf: Partial<Record<string, (cell: string) => Colour | undefined>> = {}) {
    this.#names = names;
    this.#colourOf = colourOf;
    this.#widths = names.map((name) => name.length);
  }

  print(rows: readonly (readonly (string | number | undefined)[])[]): void {
    const cells = rows.map((row) => row.map((cell) => printable(String(cell ?? ""))));
    for (const row of cells) {
      for (const [column, cell] of row.entries()) {
        this.#widths[column] = Math.max(this.#widths[column] ?? 0, cell.length);
      }
    }
    if (!this.#begun) this.#line(this.#names, () => "dim");
    this.#begun = true;
    for (const row of cells) this.#line(row, (cell, column) => this.#colourOf[this.#names[column] ?? ""]?.(cell));
  }

  #line(cells: readonly string[], colourOf: (cell: string, column: number) => Colour | undefined): void {
    const padded = cells.map((cell, column) => cell.padEnd(this.#widths[column] ?? 0) + gap);
    const whole = padded.join("").trimEnd();
    const width = widthOfTerminal();
    const line = whole.length > width ? `${whole.slice(0, width - 1)}…` : whole;
    let start = 0;
    const shown = padded.map(({ length }, column) => {
      const piece = line.slice(start, start + length);
      start += length;
      const text = piece.trimEnd();
      return painted(text, colourOf(cells[column] ?? "", column)) + piece.slice(text.length);
    });
    print(shown.join(""));
  }
}

/** Without bound if the output is not a terminal, because a script may read it. */
function widthOfTerminal(): number {
  return process.stdout.isTTY ? process.stdout.columns || Number.POSITIVE_INFINITY : Number.POSITIVE_INFINITY;
}

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000],
] as const;

/** In a list. Undefined stays undefined. */
export function relativeTo(at: number | undefined): string | undefined {
  return at === undefined ? undefined : showRelative(at);
}

/** `in 43 s`, `in 9 min`, `3 h ago`. The largest unit alone, so that lists stay narrow. */
export function showRelative(at: number, now = Date.now()): string {
  const ms = Math.abs(at - now);
  const [unit, unitMs] = units.find((each) => ms >= each[1]) ?? ["s", 1000];
  return at > now ? `in ${Math.ceil(ms / unitMs)} ${unit}` : `${Math.floor(ms / unitMs)} ${unit} ago`;
}

/** Rounded up, so that a caller that waits this long has waited long enough: `3.2 s`, `4 m 10 s`, `2 h 5 m`. */
export function showDuration(ms: number): string {
  if (ms < 60_000) return `${Math.ceil(ms / 100) / 10} s`;
  const seconds = Math.ceil(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${seconds % 60} s`;
  const wholeMinutes = Math.ceil(seconds / 60);
  return `${Math.floor(wholeMinutes / 60)} h ${wholeMinutes % 60} m`;
}
