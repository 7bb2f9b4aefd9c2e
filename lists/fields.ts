// A proxy described by named fields: a row of CSV under its header, or an object of JSON. Providers agree on no names, so all usual
// ones are here and nowhere else, compared without case, "_", "-", "." and spaces ("proxy_address" is "Proxy Address").
// What would have to be guessed is refused. Whatever cannot be told from a password is not shown.

import { labelsSchema } from "../events/ids.ts";
import { type Limits, limitsSchema } from "../events/policy.ts";
import type { Scheme } from "../events/proxy.ts";
import { canonicalHost, isLiteralAddress, isTellingHost, type ProxyAddress } from "../protocol/host.ts";
import { readAs } from "../protocol/request.ts";
import { noPort, portOf, proxyFromParts, proxyUrl, schemeOf } from "./address.ts";
import { type LineEntry, parseProxyLine } from "./line.ts";

/** Under the names as `fieldName` writes them. */
export type Fields = ReadonlyMap<string, unknown>;

export type FieldsReading =
  | { ok: true; input: string; proxy: ProxyAddress; allLabels?: true; limits?: Limits }
  | { ok: false; input: string; why: string };

/** As an export has them: in a table each is a cell with JSON in it. */
const extras = ["labels", "morelabels", "limits"];
/** In the order in which they are believed. A host may also be a whole entry: `"proxy": "http://192.0.2.1:80"`. */
const hostNames =
  "host ip hostname ipaddress proxyaddress proxyhost proxyip address addr server proxy proxyserver url proxyurl ipport".split(
    " ",
  );
const portNames = ["port", "proxyport"];
const usernameNames = ["username", "user", "login", "proxyusername", "proxyuser", "proxylogin"];
const passwordNames = ["password", "pass", "pwd", "proxypassword", "proxypass"];
const schemeNames = ["protocol", "protocols", "scheme", "proxyprotocol", "proxytype", "type"];
const countryCodeNames = ["countrycode", "countryiso", "countryisocode", "isocode", "iso", "cc", "code"];
const countryNames = ["country", "countryname"];
const cityNames = ["city", "cityname"];
/** Where providers put what they know of a proxy's place; first, beside the address itself. */
const placeNames = ["geolocation", "geo", "geoip", "location", "ipdata", "ipinfo"];

/** Of several protocols on one entry, the first of these. "https" says in many lists only that CONNECT is allowed: last. */
const schemePreference: readonly Scheme[] = ["http", "socks5", "socks4", "socks5h", "socks4a", "https"];
/** What a field named "type" says in other lists; not a protocol. */
const kinds =
  /^(residential|datacenter|isp|mobile|static|rotating|dedicated|shared|private|public|ipv[46]|elite|anonymous|transparent)$/i;
const nothing = /^(n\/?a|none|null|unknown|undefined)$/i;

const messageCharsMax = 200;
const notText = "that is neither a text nor a whole number";
const nullHost =
  "has null for its address (residential plans list none: add their gateway, with its credentials, instead)";

/** Never throws. */
export function readFields(fields: Fields): FieldsReading {
  const port = text(first(fields, portNames));
  const refusal = (why: string): FieldsReading => ({ ok: false, input: shown(fields, port), why });
  if (port === undefined) return refusal(`has a port ${notText}`);
  const username = text(first(fields, usernameNames));
  if (username === undefined) return refusal(`has a user name ${notText}`);
  const password = text(first(fields, passwordNames));
  if (password === undefined) return refusal(`has a password ${notText}`);
  const where = findAddress(fields, port.trim());
  if ("why" in where)
    return where.input === undefined ? refusal(where.why) : { ok: false, ...where, input: where.input };

  const { labels = {}, ...address } = where;
  const made = proxyFromParts({
    ...address,
    ...(address.username === undefined && { username, password }),
    scheme: where.scheme ?? preferredScheme(fields),
    labels: { ...labels, ...placeLabels(fields), ...exitLabel(fields) },
  });
  if (!made.ok) return refusal(made.why);
  return withExtras(made.proxy, fields, refusal);
}

/** The names of an object's fields, or of a header's columns. Empty for one that has no letter or digit. */
export function fieldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "");
}

/** Where two names are the same, the first that has a value. */
export function fieldsOf(entries: Iterable<readonly [name: string, value: unknown]>): Fields {
  const fields = new Map<string, unknown>();
  for (const [name, value] of entries) {
    const key = fieldName(name);
    if (isEmpty(fields.get(key))) fields.set(key, value);
  }
  return fields;
}

/** Would these columns make a table of proxies? An address, and something that one says of it. */
export function areColumns(names: readonly string[]): boolean {
  const keys = new Set(names.map(fieldName));
  const others = [
    portNames,
    usernameNames,
    passwordNames,
    schemeNames,
    countryCodeNames,
    countryNames,
    cityNames,
    extras,
  ];
  return hostNames.some((name) => keys.has(name)) && others.flat().some((name) => keys.has(name));
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

interface Found {
  scheme?: string;
  host: string;
  port: number | string;
  username?: string;
  password?: string;
  labels?: Record<string, string>;
}
type Unfound = { why: string; input?: string };

function findAddress(fields: Fields, port: string): Found | Unfound {
  const candidates = hostNames.map((name) => fields.get(name)).filter((value) => !isEmpty(value));
  const [value, ...others] = candidates;
  if (value === undefined) {
    const isNull = hostNames.some((name) => fields.get(name) === null);
    return { why: isNull ? nullHost : "has no host (expected host, ip or proxy_address, and port)" };
  }
  const bare = bareHost(value);
  if (bare === undefined) return wholeEntry(value, port);
  if (port !== "") return { ...bare, port };
  // {"ip": "192.0.2.1", "proxy": "http://192.0.2.1:80"}; a URL of another host may be anybody's page.
  for (const other of others) {
    const whole = wholeEntry(other, port);
    if (!("why" in whole) && canonicalHost(whole.host) === canonicalHost(bare.host)) return whole;
  }
  return { why: noPort };
}

/** A host alone, perhaps with a scheme before it. */
function bareHost(value: unknown): { host: string; scheme?: string } | undefined {
  if (typeof value !== "string") return undefined;
  const [, scheme, host = ""] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?([^/@]*)\/?$/i.exec(value.trim()) ?? [];
  if (canonicalHost(host) === undefined) return undefined;
  return { host, ...(scheme !== undefined && { scheme }) };
}

function wholeEntry(value: unknown, port: string): Found | Unfound {
  if (typeof value !== "string") return { why: "has a host that is not a text" };
  const [entry, ...others]: LineEntry[] = parseProxyLine(value);
  if (entry === undefined) return { why: "has no host (expected host:port)" };
  const { input } = entry;
  if (others.length > 0) return { input, why: "holds more than one proxy in one field" };
  // A word alone may be a password from another column; one with a colon or an @ is masked as an entry is.
  if (!entry.ok) return { ...(/[:@]/.test(input) && { input }), why: entry.why };
  if (port !== "" && portOf(port) !== entry.proxy.port) return { input, why: "has two different ports" };
  const { scheme, ...rest } = entry.proxy;
  return { ...rest, ...(/^[^:/@]+:\/\//.test(value.trim()) && { scheme }) };
}

function preferredScheme(fields: Fields): string {
  for (const name of schemeNames) {
    const value = fields.get(name);
    const words = (Array.isArray(value) ? value : [value])
      .filter((each) => typeof each === "string")
      .flatMap((each) => each.split(/[^a-z0-9]+/i))
      .filter((word) => word !== "");
    if (words.length === 0 || (/type$/.test(name) && words.every((word) => kinds.test(word)))) continue;
    const known = words.map(schemeOf);
    return schemePreference.find((scheme) => known.includes(scheme)) ?? "unknown";
  }
  return "";
}

function placeLabels(fields: Fields): Record<string, string> {
  const places = [fields];
  for (const name of placeNames) {
    const place = fields.get(name);
    if (isObject(place)) places.push(fieldsOf(Object.entries(place)));
  }
  const countries = places.flatMap((place) => [
    ...named(place, countryCodeNames, { isCode: true }),
    ...named(place, countryNames),
  ]);
  const country = countries.find((each) => /^[a-z]{2}$/i.test(each)) ?? countries[0];
  const city = places.flatMap((place) => named(place, cityNames))[0];
  return { ...(country !== undefined && { country }), ...(city !== undefined && { city }) };
}

/** What a place has under these names: a text, or an object such as {"iso_code": "DE", "names": {"en": "Germany"}}. */
function named(place: Fields, names: readonly string[], { isCode = false } = {}): string[] {
  return names.flatMap((name): string[] => {
    const value = place.get(name);
    if (typeof value === "string") {
      const word = value.trim();
      return (isCode ? /^[a-z]{2}$/i.test(word) : /\p{L}/u.test(word) && !nothing.test(word)) ? [word] : [];
    }
    if (isCode || !isObject(value)) return [];
    const inner = fieldsOf(Object.entries(value));
    const translated = inner.get("names");
    const english = isObject(translated) ? fieldsOf(Object.entries(translated)) : new Map();
    return [...named(inner, countryCodeNames, { isCode: true }), ...named(inner, ["name"]), ...named(english, ["en"])];
  });
}

/** Limits are counted by it, so only an address will do as `exit_ip`: all that say "n/a" are not one exit. */
function exitLabel(fields: Fields): Record<string, string> {
  const address = fields.get("exitip");
  const host = typeof address === "string" ? canonicalHost(address.trim()) : undefined;
  if (host !== undefined && isLiteralAddress(host)) return { exit: host };
  const name = fields.get("exit");
  if (typeof name !== "string" || nothing.test(name.trim())) return {};
  return { exit: canonicalHost(name.trim()) ?? name };
}

/** `labels`, `moreLabels` and `limits` as an export and `proxies.add` have them: taken as they are, so that what was exported comes back the same. */
function withExtras(proxy: ProxyAddress, fields: Fields, refusal: (why: string) => FieldsReading): FieldsReading {
  const [ofLabels, ofMore, ofLimits] = extras.map((name) => extra(fields.get(name)));
  if ([ofLabels, ofMore, ofLimits].includes("broken"))
    return refusal("has labels or limits that begin like JSON and are none");
  const labels = readAs(labelsSchema, isObject(ofLabels) ? ofLabels : {}, ["labels"]);
  if ("refusal" in labels) return refusal(`is refused: ${printable(labels.refusal.message)}`);
  const more = readAs(labelsSchema, isObject(ofMore) ? ofMore : {}, ["moreLabels"]);
  if ("refusal" in more) return refusal(`is refused: ${printable(more.refusal.message)}`);
  const limits = isObject(ofLimits) ? readAs(limitsSchema, ofLimits, ["limits"]) : undefined;
  if (limits !== undefined && "refusal" in limits) return refusal(`is refused: ${printable(limits.refusal.message)}`);
  return {
    ok: true,
    input: proxyUrl({ ...proxy, ...(proxy.password !== undefined && { password: "***" }) }),
    proxy: { ...proxy, labels: { ...proxy.labels, ...more.value, ...labels.value } },
    ...(isObject(ofLabels) && { allLabels: true as const }),
    ...(limits !== undefined && { limits: limits.value }),
  };
}

/** An object, also as the JSON of one, which is all that a cell can hold; anything else is somebody's own column. */
function extra(value: unknown): Record<string, unknown> | "broken" | undefined {
  if (isObject(value)) return value;
  if (typeof value !== "string" || !/^\s*\{/.test(value)) return undefined;
  try {
    const parsed: unknown = JSON.parse(value);
    return isObject(parsed) ? parsed : "broken";
  } catch {
    return "broken";
  }
}

/** A message names fields as they came: nothing in it that a terminal would obey, and no more than tells which is meant. */
function printable(message: string): string {
  return message.slice(0, messageCharsMax).replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\uFFFD");
}

/** Only what tells itself: where a row has its columns in another order, a password may stand in any of them. */
function shown(fields: Fields, port: string | undefined): string {
  const bare = bareHost(first(fields, hostNames));
  if (bare === undefined || port === undefined) return "***";
  const isNumber = /^\d{0,6}$/.test(port.trim());
  if (!isLiteralAddress(bare.host) && !(isNumber && isTellingHost(bare.host))) return "***";
  return `${bare.host}:${isNumber ? port.trim() : "***"}`;
}

function first(fields: Fields, names: readonly string[]): unknown {
  return names.map((name) => fields.get(name)).find((value) => !isEmpty(value));
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "string" && value.trim() === "");
}

/** The text of a simple value; "" for none, undefined for what is not simple or may have lost digits on its way. */
function text(value: unknown): string | undefined {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : undefined;
}
