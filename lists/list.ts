// A list of proxies as people have it: lines in any form, CSV with a header, JSON, or JSON line by line. Which of them it is shows in its
// first line that says anything, and holds for the whole list: nothing is guessed line by line.
// Lines, CSV and JSON lines are read as they come, so a list may be of any size; a JSON document is read whole.
// One bad entry never spoils the others. Nothing here throws, whatever it is given; no password is in `input` or `why`.

import type { Labels } from "../events/ids.ts";
import type { Limits } from "../events/policy.ts";
import type { ProxyAddress } from "../protocol/host.ts";
import type { ProxyEntry } from "../protocol/proxy.ts";
import { proxyUrl } from "./address.ts";
import { CsvReader, readHeader, rowLengthMax, type SplitRow } from "./csv.ts";
import { fieldsOf, isObject, readFields } from "./fields.ts";
import { parseProxyLine } from "./line.ts";

/** Where an entry stands: its line, from 1, or in a JSON document its index, from 0 as in `jq .[0]`. */
export type Place = { line: number } | { index: number };

type Reading =
  /** `allLabels`: they were given as such, also where there are none. */
  | { ok: true; input: string; proxy: ProxyAddress; allLabels?: true; limits?: Limits }
  | { ok: false; input: string; why: string };
export type ListEntry = Reading & { at: Place };

/**
 * An entry as `proxies.add` takes it. Only what the list itself calls `labels` is all that the proxy is to have; what a
 * line, a column or a vendor's field tells is put over what is known of it. @param common of all entries, unless they say otherwise.
 */
export function toSend(entry: ListEntry & { ok: true }, common: Labels = {}): ProxyEntry {
  const { labels: own, ...address } = entry.proxy;
  const labels = { ...common, ...own };
  const isTold = Object.keys(labels).length > 0;
  return {
    url: proxyUrl(address),
    ...(entry.allLabels === true ? { labels } : isTold && { moreLabels: labels }),
    ...(entry.limits !== undefined && { limits: entry.limits }),
  };
}

/** Of a list so many first characters tell what it is. */
export const beginningChars = 65_536;
/** What a line may have; of a longer one so much, and one more, must be given here. */
export const lineCharsMax = rowLengthMax;

const containers = ["results", "data", "proxies"];
const containersDeep = 3;

/** All entries of a list that is in memory. */
export function* readList(list: string, splitRow: SplitRow): Generator<ListEntry> {
  const beginning = list.slice(0, beginningChars);
  if (isJsonDocument(beginning)) {
    const document = parseDocument(list);
    if ("value" in document) return yield* entriesIn(document.value, { isDamaged: isDamaged(list) });
    const isByLines =
      beginning.trimStart().startsWith("{") && beginning.split("\n").some((line) => jsonLine(line) !== undefined);
    if (!isByLines)
      return yield { ok: false, at: { line: document.line }, input: "***", why: "is not JSON from here on" };
  }
  const reader = new ListReader(splitRow);
  for (const [line] of list.matchAll(/[^\r\n]*(?:\r\n?|\n|$)/g)) yield* reader.read(line.replace(/[\r\n]+$/, ""));
  yield* reader.end();
}

/** Must the list that begins so be read whole, as one JSON document? @param beginning its first line at least, or `beginningChars`. */
export function isJsonDocument(beginning: string): boolean {
  const text = beginning.replace(/^\uFEFF/, "").trimStart();
  if (/^\[\s*(["{[\]]|$)/.test(text)) return true; // "[2001:db8::1]:80" is a line.
  if (!/^\{\s*(["}]|$)/.test(text)) return false;
  const end = text.search(/[\r\n]/);
  const first = end < 0 ? undefined : jsonLine(text.slice(0, end));
  return first === undefined || listIn(first) !== undefined;
}

/** Reads a list line by line. */
export class ListReader {
  readonly #splitRow: SplitRow;
  #line = 0;
  #format: "lines" | "json-lines" | CsvReader | undefined;

  constructor(splitRow: SplitRow) {
    this.#splitRow = splitRow;
  }

  /** The entries that are complete with this line (without its end). */
  read(text: string): ListEntry[] {
    const line = ++this.#line;
    if (line === 1) text = text.replace(/^\uFEFF/, "");
    if (this.#format === undefined) {
      if (/^\s*(#|$)/.test(text)) return [];
      const header = readHeader(text, this.#splitRow);
      if (header !== undefined) {
        this.#format = new CsvReader(header, this.#splitRow);
        return [];
      }
      this.#format = /^\s*(\{\s*["}]|"[^"]*"\s*$)/.test(text) ? "json-lines" : "lines";
    }
    if (this.#format === "lines") return parseProxyLine(text).map((entry) => placed(entry, { line }, isDamaged(text)));
    if (this.#format === "json-lines") return [...readJsonLine(text, line)];
    return placedRows(this.#format.read(line, text));
  }

  /** What was held back for a row that might go on. */
  end(): ListEntry[] {
    return this.#format instanceof CsvReader ? placedRows(this.#format.end()) : [];
  }
}

function placedRows(rows: ReturnType<CsvReader["end"]>): ListEntry[] {
  return rows.map(({ line, isDamaged, ...reading }) => placed(reading, { line }, isDamaged));
}

/** Was something in it no UTF-8? What is escaped, or percent-encoded, is meant as it is. */
function isDamaged(text: string): boolean {
  return text.includes("\uFFFD");
}

/** @param mayBeDamaged what it was read from is. */
function placed(reading: Reading, at: Place, mayBeDamaged: boolean): ListEntry {
  if (!reading.ok || !mayBeDamaged) return { ...reading, at };
  const { username = "", password = "", labels } = reading.proxy;
  if (![username, password, ...Object.values(labels)].some(isDamaged)) return { ...reading, at };
  return { ok: false, at, input: reading.input, why: "has characters that are not UTF-8 (save the list as UTF-8)" };
}

function* readJsonLine(text: string, line: number): Generator<ListEntry> {
  if (text.trim() === "") return;
  if (text.length > lineCharsMax) {
    return yield { ok: false, at: { line }, input: "***", why: `is longer than ${lineCharsMax} characters` };
  }
  const document = parseDocument(text);
  if ("value" in document) yield* entriesIn(document.value, { at: { line }, isDamaged: isDamaged(text) });
  else yield { ok: false, at: { line }, input: "***", why: "is not JSON" };
}

function jsonLine(text: string): unknown {
  const document = parseDocument(text);
  return "value" in document && isObject(document.value) ? document.value : undefined;
}

function parseDocument(text: string): { value: unknown } | { line: number } {
  try {
    return { value: JSON.parse(text.replace(/^\uFEFF/, "")) };
  } catch (error) {
    // The message quotes what it found, which may be a password; only its position is taken, where it has one.
    const line = error instanceof Error ? / \(line (\d+) column \d+\)$/.exec(error.message)?.[1] : undefined;
    return { line: Number(line ?? 1) };
  }
}

/** @param of.at for all of them; else each has its index. */
function* entriesIn(value: unknown, of: { at?: Place; isDamaged: boolean }): Generator<ListEntry> {
  const list = Array.isArray(value) ? value : (listIn(value) ?? [value]);
  for (const [index, each] of list.entries()) {
    for (const reading of readValue(each)) yield placed(reading, of.at ?? { index }, of.isDamaged);
  }
}

/** {"results": […]}, also {"data": {"proxies": […]}}. */
function listIn(value: unknown, deep = 1): readonly unknown[] | undefined {
  if (!isObject(value)) return undefined;
  for (const name of containers) {
    const inner = value[name];
    if (Array.isArray(inner)) return inner;
    const list = deep < containersDeep ? listIn(inner, deep + 1) : undefined;
    if (list !== undefined) return list;
  }
  return undefined;
}

function readValue(value: unknown): Reading[] {
  if (isObject(value)) return [readFields(fieldsOf(Object.entries(value)))];
  if (typeof value !== "string") {
    return [{ ok: false, input: "***", why: 'is neither a text nor an object (expected "host:port" or {"host": …})' }];
  }
  const readings = value.split(/\r\n|\n|\r/).flatMap(parseProxyLine);
  return readings.length > 0 ? readings : [{ ok: false, input: "", why: "is empty (expected host:port)" }];
}
