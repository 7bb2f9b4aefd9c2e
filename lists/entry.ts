// One entry of a proxy list: a text without separators, read in every way it can be read.
//
//   host:port[:CC]     host:port:user:password     user:password:host:port     user:password@host:port[:CC]
//   and each with scheme:// before it, which also tolerates a final "/" and a "#fragment" after host:port
//
// Where two readings are valid the rules below say which one holds; where they would have to guess, the entry is refused.
// Only the @ form is percent-decoded: the colon forms come from exports that write passwords as they are.
// A password must never be in `input` or `why`, least of all when the entry was not understood.

import { canonicalHost, isLiteralAddress, isTellingHost, type ProxyAddress } from "../protocol/host.ts";
import { badPort, noPort, portOf, proxyFromParts, schemeOf } from "./address.ts";

export type EntryReading =
  /** `ending`: what stands last, and so what a stray word after the entry might belong to. */
  { ok: true; input: string; proxy: ProxyAddress; ending: "address" | "password" } | { ok: false; why: string };

const unbracketed = "has an IPv6 address without brackets (expected [address]:port)";
export const notAnAddress = "is not a proxy (expected host:port)";
const unreadableFields = "has no valid port in place (expected host:port:user:password or user:password:host:port)";
const ambiguous = "could be host:port:user:password or user:password:host:port (write user:password@host:port)";

/** Reads one entry. `input` has the password masked as ***. Never throws. */
export function readEntry(text: string): EntryReading {
  const { prefix, scheme, body } = splitScheme(text);
  if (schemeOf(scheme) === undefined) return unknownScheme(scheme);
  const entry: Entry = { prefix, scheme, body };
  const at = body.lastIndexOf("@");
  if (at < 0) return readColons(entry);
  const byAt = readAt(entry, at);
  const byColons = readColons(entry);
  // "192.0.2.1:99999:user:p@ss:99" is the colon form with a wrong port, not a user named like an address.
  if (!byColons.ok)
    return byAt.ok && /:\d+:/.test(body.slice(0, at)) && isLiteralAddress(hostField(body)) ? byColons : byAt;
  if (byAt.ok) {
    // "192.0.2.1:80:user:p@ss:99": nobody's user name is an address.
    const colonsTell = isLiteralAddress(byColons.proxy.host) && !isLiteralAddress(byAt.proxy.host);
    return colonsTell ? byColons : byAt;
  }
  // "proxy:80:user:p@ss" has its @ in the password, but "user:80:x:y@192.0.2.1:99999" has a wrong port.
  const tail = body.slice(at + 1);
  const tailIsPassword = !tail.includes(":") && isTellingHost(byColons.proxy.host);
  return tailIsPassword || !isTellingHost(hostField(tail)) ? byColons : byAt;
}

/** What may be shown of an entry that could not be read: an address that tells itself, the rest as ***. */
export function maskUnread(text: string): string {
  const { prefix, scheme, body } = splitScheme(text);
  if (!/[:@]/.test(text)) return text;
  const known = schemeOf(scheme) === undefined ? "" : prefix;
  const at = body.lastIndexOf("@");
  if (at >= 0) {
    const tail = body.slice(at + 1);
    const end = readEndpoint(tail, { inUrl: false });
    return end.ok && isTellingHost(end.host) ? `${known}***@${tail}` : `${known}***`;
  }
  if (isUnbracketedIpv6(body)) return text;
  const host = hostField(body);
  const [port = "", ...more] = body.slice(host.length + 1).split(":");
  // With two fields a dotted name is a host; with more it may as well be the user name before a password that looks like a port.
  if (more.length === 0 && isTellingHost(host)) return /^\d{0,6}$/.test(port) ? text : `${known}${host}:***`;
  if (isLiteralAddress(host) && typeof portOf(port) === "number") return `${known}${host}:${port}:***`;
  const end = splitEnd(body);
  return end !== undefined && isLiteralAddress(end.host) && typeof portOf(end.port) === "number"
    ? `${known}***:${end.host}:${end.port}`
    : `${known}***`;
}

/** Does the text, taken alone, look like an entry, if perhaps a broken one, and not like a piece of somebody's credentials? */
export function looksWhole(text: string, reading: EntryReading): boolean {
  if (reading.ok) return reading.proxy.username !== undefined || isTellingHost(reading.proxy.host);
  const { body } = splitScheme(text);
  const tail = body.slice(body.lastIndexOf("@") + 1);
  const host = hostField(tail);
  return isTellingHost(host) && /^\d*$/.test(tail.slice(host.length + 1).split(":")[0] ?? "");
}

export function hasScheme(text: string): boolean {
  return splitScheme(text).prefix !== "";
}

interface Entry {
  readonly prefix: string;
  readonly scheme: string;
  readonly body: string;
}

function splitScheme(text: string): Entry {
  const match = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text);
  const [prefix = "", scheme = ""] = match ?? [];
  return { prefix, scheme, body: text.slice(prefix.length) };
}

/** user:password@host:port[:CC]; the last @ ends the credentials, their first colon the user name. */
function readAt({ prefix, scheme, body }: Entry, at: number): EntryReading {
  const credentials = body.slice(0, at);
  const tail = body.slice(at + 1);
  const end = readEndpoint(tail, { inUrl: prefix !== "" });
  if (!end.ok) return end;
  const colon = credentials.indexOf(":");
  const user = colon < 0 ? credentials : credentials.slice(0, colon);
  const password = colon < 0 ? "" : credentials.slice(colon + 1);
  const made = proxyFromParts({
    scheme,
    host: end.host,
    port: end.port,
    username: percentDecoded(user),
    password: percentDecoded(password),
    labels: end.labels,
  });
  if (!made.ok) return made;
  return { ...made, input: `${prefix}${user}${colon < 0 ? "" : ":***"}@${tail}`, ending: "address" };
}

/** The forms without @. */
function readColons(entry: Entry): EntryReading {
  const { prefix, scheme, body } = entry;
  if (isUnbracketedIpv6(body)) return { ok: false, why: unbracketed };
  const host = hostField(body);
  const fields = body.slice(host.length + 1).split(":");
  if (fields.length < 3) {
    const end = readEndpoint(body, { inUrl: prefix !== "" });
    if (!end.ok) return end;
    const made = proxyFromParts({ scheme, host: end.host, port: end.port, labels: end.labels });
    return made.ok ? { ...made, input: `${prefix}${body}`, ending: "address" } : made;
  }
  const [port = "", user = "", ...rest] = fields;
  const first = proxyFromParts({ scheme, host, port, username: user, password: rest.join(":") });
  const end = splitEnd(body);
  const last = end && proxyFromParts({ scheme, host: end.host, port: end.port, ...splitUser(end.before) });
  if (first.ok) {
    // "user:1234:192.0.2.1:8080": by the rule a host named "user", by all appearance not. Better refused than stored wrong.
    const isGuess = end !== undefined && isLiteralAddress(canonicalHost(end.host) ?? "") && !isTellingHost(host);
    if (isGuess) return { ok: false, why: ambiguous };
    return { ...first, input: `${prefix}${host}:${port}:${user}:***`, ending: "password" };
  }
  // "192.0.2.1:99999:user:ab:12": the address tells that only its port is wrong.
  const isWrongPort =
    isLiteralAddress(host) || (isTellingHost(host) && /^\d+$/.test(port) && !isTellingHost(end?.host ?? ""));
  if (last?.ok && !isWrongPort) {
    const input = `${prefix}${splitUser(end?.before ?? "").username}:***:${end?.host}:${end?.port}`;
    return { ...last, input, ending: "address" };
  }
  if (typeof portOf(port) === "number" || isTellingHost(host)) return first;
  if (last?.ok === false && typeof portOf(end?.port ?? "") === "number") return last;
  return { ok: false, why: unreadableFields };
}

type Endpoint = { ok: true; host: string; port: number; labels: Record<string, string> } | { ok: false; why: string };

/** host:port, host:port:CC; in a URL also with a final "/" and a fragment, as glider writes "#priority=100". */
function readEndpoint(text: string, { inUrl }: { inUrl: boolean }): Endpoint {
  const bare = inUrl ? text.replace(/#.*$/s, "").replace(/\/$/, "") : text;
  if (isUnbracketedIpv6(bare)) return { ok: false, why: unbracketed };
  const host = hostField(bare);
  if (host === "" && bare !== "") return { ok: false, why: "has no host (expected host:port)" };
  const fields = bare.slice(host.length + 1).split(":");
  const [port = "", country] = fields;
  const isHost = canonicalHost(host) !== undefined;
  if (!isHost) return { ok: false, why: notAnAddress };
  if (port === "" && country === undefined) return { ok: false, why: noPort };
  if (inUrl && /[/?]/.test(port)) return { ok: false, why: "has a path after its port (expected scheme://host:port)" };
  const number = portOf(port);
  if (typeof number !== "number") return { ok: false, why: port === "" ? noPort : badPort };
  if (country === undefined) return { ok: true, host, port: number, labels: {} };
  if (fields.length > 2 || !isCountryCode(country)) {
    return {
      ok: false,
      why: "has a third field that is no country code of two letters (a user name needs a password)",
    };
  }
  return { ok: true, host, port: number, labels: { country } };
}

export function isCountryCode(text: string): boolean {
  return /^[a-z]{2}$/i.test(text);
}

/** The first field, or the brackets and what is in them if a colon or nothing follows. */
function hostField(text: string): string {
  const bracketed = /^\[[^\]]*\](?=:|$)/.exec(text)?.[0];
  return bracketed ?? text.slice(0, text.includes(":") ? text.indexOf(":") : undefined);
}

/** The last two fields and what is before them. */
function splitEnd(text: string): { before: string; host: string; port: string } | undefined {
  const colon = text.lastIndexOf(":");
  const rest = text.slice(0, Math.max(0, colon));
  const start = rest.endsWith("]") ? rest.lastIndexOf("[") : rest.lastIndexOf(":") + 1;
  if (colon < 0 || start < 1 || text[start - 1] !== ":") return undefined;
  return { before: rest.slice(0, start - 1), host: rest.slice(start), port: text.slice(colon + 1) };
}

function splitUser(text: string): { username: string; password: string } {
  const colon = text.indexOf(":");
  return colon < 0
    ? { username: text, password: "" }
    : { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** An IPv6 address, with a port or without, that nothing separates from its port. */
function isUnbracketedIpv6(text: string): boolean {
  if (text.startsWith("[") || text.indexOf(":") === text.lastIndexOf(":")) return false;
  const colon = text.lastIndexOf(":");
  return isLiteralAddress(text) || (isLiteralAddress(text.slice(0, colon)) && /^\d+$/.test(text.slice(colon + 1)));
}

/** Each escape that spells a character of UTF-8 is decoded; any other "%" is taken as it stands. */
function percentDecoded(text: string): string {
  const character =
    /%[0-7][0-9a-f]|%[cd][0-9a-f]%[89ab][0-9a-f]|%e[0-9a-f](?:%[89ab][0-9a-f]){2}|%f[0-7](?:%[89ab][0-9a-f]){3}/gi;
  return text.replace(character, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return escaped;
    }
  });
}

function unknownScheme(scheme: string): EntryReading {
  const made = proxyFromParts({ scheme, host: "", port: "" });
  return { ok: false, why: made.ok ? notAnAddress : made.why };
}
