// A list in JSON: an array, or an object that holds one, as in public lists and vendors' APIs. A list may be named
// after the protocol of its entries: {"http": [...], "socks5": [...]}. If no list is found, that is one rejection,
// which names the fields that were seen.

import type { Scheme } from "../events/proxy.ts";
import { schemeOf } from "./address.ts";
import { type FieldsReading, namesHost, noHost, readRow } from "./fields.ts";
import { parseProxyLine } from "./line.ts";
import { fieldName, fieldsOf, isObject } from "./named.ts";
import { schemeOfColumn } from "./protocols.ts";
import { scrapoxyEntries } from "./scrapoxy.ts";

const containers = new Set(
  "results result data proxies items list lists lista proxylist rows records response payload content docs ips nodes".split(
    " ",
  ),
);
/** Nested containers: {"data": {"items": [...]}}. */
const deepMax = 3;
const namesMax = 10;

const notAnEntry = 'is neither a string nor an object (expected "host:port" or {"host": …})';
const notAProtocol = "is a list whose name is not a protocol, beside lists named after protocols";
const noList = "has no list of proxies (expected an array, or one under results, data or proxies)";

/** The entries, each with its index in the list. @param scheme of entries without one. Never throws. */
export function* readDocument(
  value: unknown,
  scheme: Scheme,
): Generator<{ index: number; readings: readonly FieldsReading[] }> {
  const list = listIn(value, scheme, 0);
  if (list !== undefined) {
    for (const [index, item] of list.entries()) yield { index, readings: readItem(item, 1) };
  } else if (isObject(value) && !isEntry(value)) yield { index: 0, readings: [refused(noList, value)] };
  else yield { index: 0, readings: readItem({ value, scheme }, 1) };
}

export function hasList(value: unknown): boolean {
  return listIn(value, "http", 0) !== undefined;
}

/** `scheme`: from the name of the list, or the caller's choice. */
interface Item {
  value: unknown;
  scheme: Scheme;
}

function listIn(value: unknown, scheme: Scheme, deep: number): Item[] | undefined {
  if (Array.isArray(value)) return value.map((each) => ({ value: each, scheme }));
  if (!isObject(value) || deep > deepMax) return undefined;
  const ofScrapoxy = scrapoxyEntries(value);
  if (ofScrapoxy !== undefined)
    return ofScrapoxy.map((each) => ({ value: "why" in each ? new NotAnEntry(each.why) : each.proxy, scheme }));
  const entries = Object.entries(value);
  // {"protocol": "socks5", "proxies": [...]}
  const said = entries.find(([name]) => /^(proto|protocol|scheme)$/i.test(name))?.[1];
  const named = typeof said === "string" ? (schemeOf(said) ?? scheme) : scheme;
  for (const [name, inner] of entries) {
    const list = containers.has(fieldName(name)) ? listIn(inner, named, deep + 1) : undefined;
    if (list !== undefined) return list;
  }
  if (isEntry(value)) return undefined;
  return byProtocol(entries, deep) ?? byKey(entries, scheme);
}

/** {"http": [...], "socks5": [...]}. A list with another name next to them may have any protocol. */
function byProtocol(entries: readonly [string, unknown][], deep: number): Item[] | undefined {
  const lists = entries.map(([name, value]) => {
    const scheme = schemeOfColumn(fieldName(name));
    const text = typeof value === "string" && /[:@]/.test(value) ? [{ value, scheme: scheme ?? "http" }] : undefined;
    return { name, value, scheme, items: scheme === undefined ? undefined : (text ?? listIn(value, scheme, deep + 1)) };
  });
  if (!lists.some(({ items }) => items !== undefined)) return undefined;
  return lists.flatMap(({ value, items }) => items ?? (Array.isArray(value) && value.length > 0 ? [unknownList] : []));
}

/** Stands for a part of the document that is not an entry. */
class NotAnEntry {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

const unknownList: Item = { value: new NotAnEntry(notAProtocol), scheme: "http" };

/** {"11": {"host": …}, "14": {"host": …}}: entries under their numbers. */
function byKey(entries: readonly [string, unknown][], scheme: Scheme): Item[] | undefined {
  const isList = entries.length > 0 && entries.every(([, value]) => isEntry(value));
  return isList ? entries.map(([, value]) => ({ value, scheme })) : undefined;
}

/** Whether the value is one entry, possibly an invalid one. */
function isEntry(value: unknown): boolean {
  return isObject(value) && namesHost(fieldsOf(Object.entries(value)));
}

function readItem({ value, scheme }: Item, deep: number): FieldsReading[] {
  if (typeof value === "string") {
    const readings = value.split(/\r\n|\n|\r/).flatMap((line) => parseProxyLine(line, scheme));
    return readings.length > 0 ? readings : [{ ok: false, input: "", why: "is empty (expected host:port)" }];
  }
  if (value instanceof NotAnEntry) return [{ ok: false, input: "***", why: value.why }];
  if (!isObject(value)) return [{ ok: false, input: "***", why: notAnEntry }];
  const fields = fieldsOf(Object.entries(value));
  if (namesHost(fields)) return readRow(fields, scheme);
  const inner = deep > deepMax ? undefined : listIn(value, scheme, deep);
  return inner?.flatMap((item) => readItem(item, deep + 1)) ?? [refused(noHost, value)];
}

/** Names as they came, if they are words. A key that may be an address or a password is not shown. */
function refused(why: string, value: Record<string, unknown>): FieldsReading {
  const names = Object.entries(value).flatMap(([name, inner]) => [
    name,
    ...(containers.has(fieldName(name)) && isObject(inner) ? Object.keys(inner).map((each) => `${name}.${each}`) : []),
  ]);
  const shown = names.slice(0, namesMax).map((name) => (/^[a-z][\w. -]{0,40}$/i.test(name) ? name : "***"));
  const more = names.length > namesMax ? ", …" : "";
  const seen = names.length === 0 ? "" : `; its fields are ${shown.join(", ")}${more}`;
  return { ok: false, input: "***", why: `${why}${seen}` };
}
