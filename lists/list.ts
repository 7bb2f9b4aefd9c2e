// A list of proxies in any common format: lines in any form, CSV with a header, JSON, or JSON line by line. The first
// line with content decides the format of the whole list: nothing is guessed line by line. Lines, CSV and JSON lines
// are read as they arrive, so a list may have any size. A JSON document is read whole. One bad entry never affects the
// others. Nothing here throws, whatever the input. `input` and `why` hold no password.

import type { Labels } from "../events/ids.ts";
import type { Scheme } from "../events/proxy.ts";
import type { ListScheme, ProxyEntry } from "../protocol/proxy.ts";
import { isTooMuch, parsedListBytesMax } from "../protocol/request.ts";
import { listScheme, proxyUrl } from "./address.ts";
import { CsvReader, readHeader, rowLengthMax } from "./csv.ts";
import { hasList, readDocument } from "./document.ts";
import type { FieldsReading } from "./fields.ts";
import { parseProxyLine } from "./line.ts";
import { isObject, mayBeJsonObject } from "./named.ts";

/** The place of an entry: its line, from 1, or in a JSON document its index, from 0 as in `jq .[0]`. */
export type Place = { line: number } | { index: number };

/** `allLabels`: the source gave `labels` explicitly, possibly empty. */
export type ListEntry = FieldsReading & { at: Place };

/**
 * An entry as `proxies.add` takes it. Only a source's explicit `labels` replace all labels of the proxy. Labels from a
 * line, a column or a vendor's field are merged into the known ones. @param common of all entries, unless they say
 * otherwise.
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

/** The format of a list can be decided from this many first characters. */
export const beginningChars = 65_536;
/** The longest line. From a longer line, pass this many characters and one more. */
export const lineCharsMax = rowLengthMax;

export interface Reads {
  /** Of entries without one. */
  scheme?: ListScheme | undefined;
}

/** All entries of a list that is in memory. */
export function* readList(list: string, { scheme: asked }: Reads = {}): Generator<ListEntry> {
  const scheme = listScheme(asked);
  const beginning = list.slice(0, beginningChars);
  if (isJsonDocument(beginning)) {
    const document = parseDocument(list);
    if ("value" in document) return yield* entriesIn(document.value, { isDamaged: isDamaged(list), scheme });
    const isByLines =
      beginning.trimStart().startsWith("{") && beginning.split("\n").some((line) => jsonLine(line) !== undefined);
    if (!isByLines)
      return yield { ok: false, at: { line: document.line }, input: "***", why: "is not JSON from here on" };
  }
  const reader = new ListReader({ scheme: asked });
  for (const line of linesOf(list)) yield* reader.read(line);
  yield* reader.end();
}

/** The lines of a list, for a `ListReader`: it needs no more of a line than is here. */
export function* linesOf(list: string): Generator<string> {
  for (const [, line = ""] of list.matchAll(/([^\r\n]*)(?:\r\n?|\n|$)/g)) yield line.slice(0, lineCharsMax + 1);
}

/**
 * Whether the list must be read whole, as one JSON document. @param beginning its first line at least, or
 * `beginningChars`.
 */
export function isJsonDocument(beginning: string): boolean {
  const text = beginning.replace(/^\uFEFF/, "").trimStart();
  if (/^\[\s*(["{[\]]|$)/.test(text)) return true; // "[2001:db8::1]:80" is a line.
  if (!/^\{\s*(["}]|$)/.test(text)) return false;
  const end = text.search(/[\r\n]/);
  const first = end < 0 ? undefined : jsonLine(text.slice(0, end));
  return first === undefined || hasList(first);
}

/** Reads a list line by line. */
export class ListReader {
  readonly #scheme: Scheme;
  #line = 0;
  #format: "lines" | "json-lines" | CsvReader | undefined;

  constructor({ scheme }: Reads = {}) {
    this.#scheme = listScheme(scheme);
  }

  /** The entries that are complete with this line (without its end). */
  read(text: string): ListEntry[] {
    const line = ++this.#line;
    if (line === 1) text = text.replace(/^\uFEFF/, "");
    if (this.#format === undefined) {
      if (/^\s*(#|$)/.test(text)) return [];
      const header = readHeader(text);
      if (header !== undefined) {
        this.#format = new CsvReader(header, this.#scheme);
        return [];
      }
      this.#format = /^\s*(\{\s*["}]|"[^"]*"\s*$)/.test(text) ? "json-lines" : "lines";
    }
    if (this.#format === "lines")
      return parseProxyLine(text, this.#scheme).map((entry) => placed(entry, { line }, isDamaged(text)));
    if (this.#format === "json-lines") return [...readJsonLine(text, { line, scheme: this.#scheme })];
    return placedRows(this.#format.read(line, text));
  }

  /** The entries that were held back for a row that might continue. */
  end(): ListEntry[] {
    return this.#format instanceof CsvReader ? placedRows(this.#format.end()) : [];
  }
}

function placedRows(rows: ReturnType<CsvReader["end"]>): ListEntry[] {
  return rows.map(({ line, isDamaged, reading }) => placed(reading, { line }, isDamaged));
}

/** Whether some of it was not valid UTF-8. Escaped or percent-encoded characters are taken as intended. */
function isDamaged(text: string): boolean {
  return text.includes("\uFFFD");
}

/** @param mayBeDamaged whether the source text is damaged. */
function placed(reading: FieldsReading, at: Place, mayBeDamaged: boolean): ListEntry {
  if (!reading.ok || !mayBeDamaged) return { ...reading, at };
  const { username = "", password = "", labels } = reading.proxy;
  if (![username, password, ...Object.values(labels)].some(isDamaged)) return { ...reading, at };
  return { ok: false, at, input: reading.input, why: "has characters that are not UTF-8 (save the list as UTF-8)" };
}

function* readJsonLine(text: string, { line, scheme }: { line: number; scheme: Scheme }): Generator<ListEntry> {
  if (text.trim() === "") return;
  if (text.length > lineCharsMax) {
    return yield { ok: false, at: { line }, input: "***", why: `is longer than ${lineCharsMax} characters` };
  }
  const document = mayBeJson(text) ? parseDocument(text) : { line };
  if ("value" in document) yield* entriesIn(document.value, { at: { line }, isDamaged: isDamaged(text), scheme });
  else yield { ok: false, at: { line }, input: "***", why: "is not JSON" };
}

function mayBeJson(text: string): boolean {
  const isOther = /^\s*("([^"\\]|\\["\\/bfnrtu])*"|\[\s*(["{[\d\-tfn].*)?\]|-?\d[\d.eE+-]*|true|false|null)\s*$/s;
  return mayBeJsonObject(text) || isOther.test(text);
}

function jsonLine(text: string): unknown {
  const document = parseDocument(text);
  return "value" in document && isObject(document.value) ? document.value : undefined;
}

function parseDocument(text: string): { value: unknown } | { line: number } {
  if (isTooMuch(text, parsedListBytesMax)) return { line: 1 };
  try {
    return { value: JSON.parse(text.replace(/^\uFEFF/, "")) };
  } catch (error) {
    // The message quotes the text, which may be a password. Only its position is used, if it has one.
    const line = error instanceof Error ? / \(line (\d+) column \d+\)$/.exec(error.message)?.[1] : undefined;
    return { line: Number(line ?? 1) };
  }
}

/** @param of.at for all of them. If absent, each has its index. */
function* entriesIn(value: unknown, of: { at?: Place; isDamaged: boolean; scheme: Scheme }): Generator<ListEntry> {
  for (const { index, readings } of readDocument(value, of.scheme)) {
    for (const reading of readings) yield placed(reading, of.at ?? { index }, of.isDamaged);
  }
}
