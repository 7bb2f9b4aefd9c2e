// The protocol of an entry with named fields: a field, a column per protocol, a port per protocol. A value that looks
// like a protocol and cannot be read is reported as unreadable, so that a SOCKS proxy is never stored as http.

import type { Scheme } from "../events/proxy.ts";
import { schemes } from "../events/words.ts";
import { schemeOf } from "./address.ts";
import { type Fields, hasOnly, isEmpty } from "./named.ts";

/** `schemes`: all that the entry names, the preferred one first. `ports`: the ports given per scheme. */
export type Protocols = { schemes: readonly Scheme[]; ports: ReadonlyMap<Scheme, number | string> } | { why: string };

/**
 * If an entry has several protocols, the first of these is used. "https" is last, because in many lists it only means
 * that CONNECT is allowed.
 */
const preference: readonly Scheme[] = ["http", "socks5", "socks4", "socks5h", "socks4a", "https"];
const deepMax = 3;
const names = [
  "protocol",
  "protocols",
  "proto",
  "scheme",
  "schemes",
  "proxyprotocol",
  "proxyscheme",
  "proxytype",
  "type",
  "types",
];
/** Values of a `type` field in other lists that are not protocols. */
const kinds =
  /^(residential|datacenter|dc|isp|mobile|static|rotating|dedicated|shared|private|public|premium|ipv[46]|elite|high|low|anonymous|transparent|proxy|noa|anm|hia)$/i;
/** Columns or keys with these names belong to the scheme. */
const columns: ReadonlyMap<string, Scheme> = new Map([
  ...(["http", "https", "socks4", "socks4a", "socks5", "socks5h"] as const).map((scheme) => [scheme, scheme] as const),
  ["ssl", "http"],
  ["socks", "socks5"],
]);
const portColumns: ReadonlyMap<string, Scheme> = new Map(
  [...columns].flatMap(([name, scheme]) => [[`port${name}`, scheme] as const, [`${name}port`, scheme] as const]),
);

/** The scheme that the name of a column or of a list stands for. */
export function schemeOfColumn(name: string): Scheme | undefined {
  return columns.get(name);
}

/** The fields that name a protocol, or the port of one. */
export const protocolNames: readonly string[] = [...names, ...columns.keys(), ...portColumns.keys(), "ports"];

interface Found {
  schemes: Set<Scheme>;
  ports: Map<Scheme, number | string>;
}

const none: Protocols = { schemes: [], ports: new Map() };

/** @param known the names of all other known fields. */
export function protocolsOf(fields: Fields, known: ReadonlySet<string>): Protocols {
  if (hasOnly(fields, known)) return none;
  const found: Found = { schemes: new Set(), ports: new Map() };
  let unread = readNames(fields, found);
  const isNamed = found.schemes.size > 0;
  const flags = new Set<Scheme>();
  const hasPort = !isEmpty(fields.get("port") ?? fields.get("proxyport"));
  let isPerProtocol = false;
  for (const [name, value] of fields) {
    if (known.has(name) || names.includes(name) || isEmpty(value)) continue;
    const scheme = columns.get(name);
    const flag = scheme === undefined ? undefined : flagOf(value);
    const portOf = scheme !== undefined && !hasPort ? scheme : portColumns.get(name);
    if (scheme !== undefined && name !== "https" && name !== "ssl") isPerProtocol = true;
    if (scheme !== undefined && flag === true) flags.add(scheme);
    else if (portOf !== undefined && flag === undefined && isPortLike(value)) found.ports.set(portOf, value);
    else if (name === "ports" && collect(value, { schemes: new Set(), ports: found.ports })) continue;
    else if (flag === undefined && looksLikeProtocol(name, value)) unread ??= name;
  }
  if (isNamed) return sorted(found);
  // Alone, "https: yes" says that an http proxy allows CONNECT.
  for (const flag of flags) found.schemes.add(isPerProtocol ? flag : "http");
  if (found.schemes.size === 0 && !hasPort) for (const scheme of found.ports.keys()) found.schemes.add(scheme);
  if (unread !== undefined && found.schemes.size === 0)
    return { why: `has an unknown protocol in its field ${unread} (expected ${schemes.join(", ")})` };
  if (isPerProtocol && found.schemes.size === 0) return { why: "has a column per protocol, and none of them says yes" };
  return sorted(found);
}

/** Reads fields such as `protocol`. The first with a value counts. Returns the name of a field that cannot be read. */
function readNames(fields: Fields, found: Found): string | undefined {
  let unread: string | undefined;
  for (const name of names) {
    const value = fields.get(name);
    if (isEmpty(value)) continue;
    const words = /types?$/.test(name) ? wordsIn(value) : [];
    if (words.length > 0 && words.every((word) => kinds.test(word))) continue;
    if (!collect(value, found)) unread ??= name;
    if (found.schemes.size > 0) return undefined;
  }
  return unread;
}

function sorted({ schemes: named, ports }: Found): Protocols {
  return { schemes: preference.filter((scheme) => named.has(scheme)), ports };
}

/**
 * A text, an array of them, {"socks5": true}, {"socks5": 1080} or {"type": "socks5", "port": 1080}. False if it cannot
 * be read.
 */
function collect(value: unknown, found: Found, deep = 0): boolean {
  if (deep > deepMax) return false;
  if (Array.isArray(value)) {
    const told = value.filter((each) => !isEmpty(each));
    return told.every((each) => collect(each, found, deep + 1));
  }
  if (typeof value === "object" && value !== null) return collectObject(value, found, deep);
  const known = wordsIn(value).map(schemeOf);
  for (const scheme of known) if (scheme !== undefined) found.schemes.add(scheme);
  return known.some((scheme) => scheme !== undefined);
}

function collectObject(value: object, found: Found, deep: number): boolean {
  const entries = Object.entries(value).filter(([, each]) => !isEmpty(each));
  const [, named] = entries.find(([key]) => names.includes(key.toLowerCase()) || key.toLowerCase() === "name") ?? [];
  if (named !== undefined) {
    const own: Found = { schemes: new Set(), ports: new Map() };
    const [, port] = entries.find(([key]) => key.toLowerCase() === "port") ?? [];
    if (!collect(named, own, deep + 1)) return false;
    for (const scheme of own.schemes) {
      found.schemes.add(scheme);
      if (isPortLike(port)) found.ports.set(scheme, port);
    }
    return true;
  }
  let isRead = false;
  for (const [key, each] of entries) {
    const [scheme] = wordsIn(key).map(schemeOf);
    const flag = flagOf(each);
    if (scheme === undefined) continue;
    if (flag === undefined && !isPortLike(each)) return false;
    isRead = true;
    if (flag !== false) found.schemes.add(scheme);
    if (flag === undefined && isPortLike(each)) found.ports.set(scheme, each);
  }
  return isRead;
}

/** "SOCKS v5", "Socks-5" and "SOCKS4/5" have a number that belongs to the word before it. */
function wordsIn(value: unknown): string[] {
  if (typeof value !== "string") return [];
  // Bounded, because two unbounded gaps side by side take time by the square of their length.
  const joined = value.toLowerCase().replace(/socks[\s_-]{0,8}v?[\s_-]{0,8}(?=[45])/g, "socks");
  return joined.split(/[^a-z0-9]+/).filter((word) => word !== "");
}

function flagOf(value: unknown): boolean | undefined {
  if (typeof value === "boolean") return value;
  if (value === 0 || value === 1) return value === 1;
  if (typeof value !== "string") return undefined;
  const word = value.trim().toLowerCase();
  if (/^(yes|y|true|t|1|on|x|\+|✓|✔|✅)$/.test(word)) return true;
  return /^(no|n|false|f|0|off|-|✗|✘|❌)$/.test(word) ? false : undefined;
}

function isPortLike(value: unknown): value is number | string {
  return (
    (typeof value === "number" && Number.isInteger(value)) ||
    (typeof value === "string" && /^\d{2,5}$/.test(value.trim()))
  );
}

/** An unknown field that seems to name a protocol. */
function looksLikeProtocol(name: string, value: unknown): boolean {
  if (columns.has(name) || portColumns.has(name) || name === "ports") return true;
  if (/socks|proto/.test(name)) return flagOf(value) !== false;
  return typeof value === "string" && value.length <= 16 && /^\s*socks[\s_-]*v?[45]?[ah]?\s*$/i.test(value);
}
