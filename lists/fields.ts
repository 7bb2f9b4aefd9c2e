// A proxy described by named fields: a row of CSV under its header, or an object of JSON. Providers use different
// names, so all common ones are listed here and nowhere else. They are compared without case, "_", "-", "." and spaces
// ("proxy_address" is "Proxy Address"). An entry that would need a guess is refused. A text that might be a password is
// not shown.

import { labelsSchema } from "../events/ids.ts";
import { type Limits, limitsSchema } from "../events/policy.ts";
import type { Scheme } from "../events/proxy.ts";
import { canonicalHost, isCertainlyHost, isLiteralAddress, type ProxyAddress } from "../protocol/host.ts";
import { readAs } from "../protocol/request.ts";
import { noPort, portOf, proxyFromParts, schemeOf, shownUrl } from "./address.ts";
import { type LineEntry, parseProxyLine } from "./line.ts";
import {
  credentialsNames,
  type Fields,
  fieldName,
  hasAny,
  isEmpty,
  isObject,
  mayBeJsonObject,
  nestNames,
  withoutNulls,
} from "./named.ts";
import { exitLabel, placeColumns, placeKeys, placeLabels } from "./places.ts";
import { protocolNames, protocolsOf, schemeOfColumn } from "./protocols.ts";

export type FieldsReading =
  | { ok: true; input: string; proxy: ProxyAddress; allLabels?: true; limits?: Limits }
  | { ok: false; input: string; why: string };

/** As in an export. In a table each is a cell with JSON in it. */
const extras = ["labels", "morelabels", "limits"];
/** In order of preference. A host may also be a whole entry: `"proxy": "http://192.0.2.1:80"`. */
const hostNames =
  "host ip hostname ipaddress proxyaddress proxyhost proxyip connectip entrypoint endpoint address addr server proxy proxyserver url proxyurl ipport hostport".split(
    " ",
  );
const hostRanks = new Map(hostNames.map((name, rank) => [name, rank]));
const portNames = ["port", "proxyport"];
const usernameNames = ["username", "user", "login", "proxyusername", "proxyuser", "proxylogin"];
const passwordNames = ["password", "pass", "passwd", "pwd", "proxypassword", "proxypass"];
const extraKeys = new Set(extras);

const messageCharsMax = 200;
/** The known fields, except those about a protocol. */
const known = new Set(
  [extras, hostNames, portNames, usernameNames, passwordNames, nestNames, [...placeKeys, "exit", "exitip"]].flat(),
);

const notText = "that is neither a string nor a whole number";
export const noHost = "has no host (expected host, ip or proxy_address, and port)";
const noPassword = "has a user name and no password, because Rota exports none (add the proxy with its password)";
const nullHost = "has null as its address (for a residential plan, add its gateway with its credentials instead)";

/** Never throws. @param scheme of an entry without one. */
export function readFields(fields: Fields, scheme: Scheme): FieldsReading {
  const hosts = hostsIn(fields);
  const refusal = (why: string): FieldsReading => ({ ok: false, input: shown(hosts[0], fields), why });
  if (hosts.length === 0) return refusal(hostNames.some((name) => fields.get(name) === null) ? nullHost : noHost);
  const protocols = protocolsOf(fields, known);
  if ("why" in protocols) return refusal(protocols.why);
  const [preferred] = protocols.schemes;
  const ownPort = preferred === undefined ? undefined : protocols.ports.get(preferred);
  const port = text(ownPort ?? first(fields, portNames));
  if (port === undefined) return refusal(`has a port ${notText}`);
  const credentials = credentialsIn(fields);
  if (typeof credentials === "string") return refusal(credentials);
  const where = findAddress(hosts, port.trim());
  if ("why" in where)
    return where.input === undefined ? refusal(where.why) : { ok: false, ...where, input: where.input };

  const { labels = {}, scheme: ofAddress, ...address } = where;
  const own = ofAddress === undefined ? undefined : schemeOf(ofAddress);
  if (own !== undefined && isOther(own, protocols.schemes))
    return refusal(`names two protocols, ${own} and ${preferred}`);
  const made = proxyFromParts({
    ...address,
    ...(address.username === undefined && credentials),
    scheme: ofAddress ?? preferred ?? scheme,
    labels: { ...labels, ...placeLabels(fields), ...exitLabel(fields) },
  });
  if (!made.ok) return refusal(made.why);
  if (isOfRota(fields) && (made.proxy.username ?? "") !== "" && (made.proxy.password ?? "") === "")
    return { ok: false, input: shownUrl(made.proxy), why: noPassword };
  return withExtras(made.proxy, fields, refusal);
}

/** An entry, or several if the fields are named after protocols and hold addresses. */
export function readRow(fields: Fields, scheme: Scheme): FieldsReading[] {
  const entries: FieldsReading[] = [];
  for (const [name, value] of fields) {
    const named = schemeOfColumn(name);
    if (named !== undefined && typeof value === "string" && /[:@]/.test(value))
      entries.push(...parseProxyLine(value, named));
  }
  return entries.length > 0 && hostsIn(fields).length === 0 ? entries : [readFields(fields, scheme)];
}

/** Whether there is a field for an address, possibly null, as in lists of residential plans. */
export function namesHost(fields: Fields): boolean {
  return hostNames.some((name) => fields.has(name));
}

/** Fields that may hold an address, in order of preference. */
function hostsIn(fields: Fields): unknown[] {
  const found: [rank: number, value: unknown][] = [];
  for (const [name, value] of fields) {
    const rank = hostRanks.get(name);
    if (rank !== undefined && !isEmpty(value)) found.push([rank, value]);
  }
  if (found.length > 1) found.sort(([a], [b]) => a - b);
  return found.map(([, value]) => value);
}

/** Whether these columns make a table of proxies: an address, and a fact about it. */
export function areColumns(names: readonly string[]): boolean {
  const keys = new Set(names.map(fieldName));
  const others = [portNames, usernameNames, passwordNames, protocolNames, placeColumns, extras];
  const protocols = [...keys].filter((key) => schemeOfColumn(key) !== undefined);
  const isPerProtocol = protocols.length > 1 && protocols.length === names.length;
  return isPerProtocol || (hostNames.some((name) => keys.has(name)) && others.flat().some((name) => keys.has(name)));
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

function findAddress([value, ...others]: readonly unknown[], port: string): Found | Unfound {
  const bare = bareHost(value);
  if (bare === undefined) return wholeEntry(value, port);
  if (port !== "") return { ...bare, port };
  // {"ip": "192.0.2.1", "proxy": "http://192.0.2.1:80"}. A URL with another host may be any web page.
  for (const other of others) {
    const whole = wholeEntry(other, port);
    if (!("why" in whole) && canonicalHost(whole.host) === canonicalHost(bare.host)) return whole;
  }
  return { why: noPort };
}

/** A host alone, possibly with a scheme before it. */
function bareHost(value: unknown): { host: string; scheme?: string } | undefined {
  if (typeof value !== "string") return undefined;
  const [, scheme, host = ""] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?([^/@]*)\/?$/i.exec(value.trim()) ?? [];
  if (canonicalHost(host) === undefined) return undefined;
  return { host, ...(scheme !== undefined && { scheme }) };
}

function wholeEntry(value: unknown, port: string): Found | Unfound {
  if (typeof value !== "string") return { why: "has a host that is not a string" };
  const [entry, ...others]: LineEntry[] = parseProxyLine(value);
  if (entry === undefined) return { why: "has no host (expected host:port)" };
  const { input } = entry;
  if (others.length > 0) return { input, why: "has more than one proxy in one field" };
  // A single word may be a password from another column. A text with a colon or an @ is masked as an entry is.
  if (!entry.ok) return { ...(/[:@]/.test(input) && { input }), why: entry.why };
  if (port !== "" && portOf(port) !== entry.proxy.port) return { input, why: "has two different ports" };
  const { scheme, ...rest } = entry.proxy;
  return { ...rest, ...((scheme !== "http" || /^[^:/@]+:\/\//.test(value.trim())) && { scheme }) };
}

function credentialsIn(fields: Fields): { username: string; password: string } | string {
  const username = text(first(fields, usernameNames));
  if (username === undefined) return `has a user name ${notText}`;
  const password = text(first(fields, passwordNames));
  if (password === undefined) return `has a password ${notText}`;
  const both = first(fields, credentialsNames);
  if (username !== "" || typeof both !== "string" || !both.includes(":")) return { username, password };
  const colon = both.indexOf(":");
  return { username: both.slice(0, colon), password: both.slice(colon + 1) };
}

function isOfRota(fields: Fields): boolean {
  return fields.has("successrate") && fields.has("avgresponsetime");
}

/** "https" is also used for http proxies, to mean CONNECT. */
function isOther(scheme: Scheme, named: readonly Scheme[]): boolean {
  const family = (each: Scheme): string => each.replace(/^https$/, "http").replace(/[ah]$/, "");
  return named.length > 0 && !named.some((each) => family(each) === family(scheme));
}

/**
 * `labels`, `moreLabels` and `limits` as in an export and in `proxies.add`. They are taken unchanged, so that an export
 * reads back the same.
 */
function withExtras(proxy: ProxyAddress, fields: Fields, refusal: (why: string) => FieldsReading): FieldsReading {
  const input = shownUrl(proxy);
  if (!hasAny(fields, extraKeys)) return { ok: true, input, proxy };
  const [ofLabels, ofMore, ofLimits] = extras.map((name) => extra(fields.get(name)));
  if ([ofLabels, ofMore, ofLimits].includes("broken"))
    return refusal("has labels or limits that begin like JSON but are not valid JSON");
  const labels = readAs(labelsSchema, isObject(ofLabels) ? withoutNulls(ofLabels) : {}, ["labels"]);
  if ("refusal" in labels) return refusal(`is refused: ${printable(labels.refusal.message)}`);
  const more = readAs(labelsSchema, isObject(ofMore) ? withoutNulls(ofMore) : {}, ["moreLabels"]);
  if ("refusal" in more) return refusal(`is refused: ${printable(more.refusal.message)}`);
  const limits = isObject(ofLimits) ? readAs(limitsSchema, ofLimits, ["limits"]) : undefined;
  if (limits !== undefined && "refusal" in limits) return refusal(`is refused: ${printable(limits.refusal.message)}`);
  return {
    ok: true,
    input,
    proxy: { ...proxy, labels: { ...proxy.labels, ...more.value, ...labels.value } },
    ...(isObject(ofLabels) && { allLabels: true as const }),
    ...(limits !== undefined && { limits: limits.value }),
  };
}

/**
 * An object, or its JSON as a text, because a cell can hold only text. Any other value belongs to the provider's own
 * column.
 */
function extra(value: unknown): Record<string, unknown> | "broken" | undefined {
  if (isObject(value)) return value;
  if (typeof value !== "string" || !/^\s*\{/.test(value)) return undefined;
  try {
    if (!mayBeJsonObject(value)) return "broken"; // A very long text may be too much for it.
    const parsed: unknown = JSON.parse(value);
    return isObject(parsed) ? parsed : "broken";
  } catch {
    return "broken";
  }
}

/** A message names fields as they came. So control characters are replaced, and a long message is cut. */
function printable(message: string): string {
  return message.slice(0, messageCharsMax).replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\uFFFD");
}

/** Only a recognisable address. If a row has its columns in another order, a password may be in any of them. */
function shown(host: unknown, fields: Fields): string {
  const bare = bareHost(host);
  const port = bare && text(first(fields, portNames))?.trim();
  if (bare === undefined || port === undefined) return "***";
  const isNumber = /^\d{0,6}$/.test(port);
  if (!isLiteralAddress(bare.host) && !(isNumber && isCertainlyHost(bare.host))) return "***";
  return `${bare.host}:${isNumber ? port : "***"}`;
}

function first(fields: Fields, names: readonly string[]): unknown {
  for (const name of names) {
    const value = fields.get(name);
    if (!isEmpty(value)) return value;
  }
  return undefined;
}

/** The text of a simple value. "" for no value. Undefined if it is not simple, or may have lost digits in parsing. */
function text(value: unknown): string | undefined {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : undefined;
}
