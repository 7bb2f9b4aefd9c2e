// One entry of a proxy list: a text without separators. The form is decided first; only then is the text cut. Each form
// of the table in docs/lists.md gives a cut, or says why it does not fit. If exactly one fits, the entry is read. If
// two fit, it is rejected: a guess could store a password as a host. Only the forms with @ are percent-decoded, because
// the colon forms come from exports that write passwords literally. `input` and `why` must never hold a piece of a
// password or most of a user name, least of all when the entry was not understood.

import type { Scheme } from "../events/proxy.ts";
import { canonicalHost, isCertainlyHost, isLiteralAddress, type ProxyAddress } from "../protocol/host.ts";
import { maskedName, noPort, portOf, proxyFromParts, schemeOf, unknownScheme } from "./address.ts";

export type Form =
  | "host:port"
  | "host:port:user:password"
  | "user:password@host:port"
  | "user:password:host:port"
  | "host:port@user:password";

/** `input` is the text that was read, with *** for the password, and the user name masked. */
export type EntryReading =
  | { ok: true; input: string; proxy: ProxyAddress; form: Form; hasScheme: boolean }
  | { ok: false; input: string; why: string };

export const notAnAddress = "is not a proxy (expected host:port)";
export const escapeAdvice = "write scheme://user:password@host:port, percent-encoded";
const unbracketed = "has an IPv6 address without brackets (expected [address]:port)";
const unreadable = "has no valid port in place (expected host:port:user:password or user:password:host:port)";
const notACountry = "has a third field that is not a country code of two letters (a user name needs a password)";

/** @param scheme of an entry without one. Never throws. */
export function readEntry(text: string, scheme: Scheme): EntryReading {
  const { prefix, name, body } = splitScheme(text);
  const own = prefix === "" ? scheme : schemeOf(name);
  if (own === undefined) return { ok: false, input: masked(text), why: unknownScheme };
  const cuts = cutsOf(body, { inUrl: prefix !== "" });
  let read: (EntryReading & { ok: true }) | undefined;
  let why: string | undefined;
  for (const cut of cuts) {
    const made = typeof cut === "string" ? { ok: false as const, why: cut } : addressOf(cut, own);
    if (!made.ok) why ??= made.why;
    // An address and an @ decide the form, even if no valid user name or password follows.
    if (!made.ok && typeof cut !== "string" && cut.form === "host:port@user:password") break;
    if (!made.ok) continue;
    if (typeof cut !== "string") {
      if (read !== undefined) return { ok: false, input: masked(text), why: ambiguous(read.form, cut.form) };
      const { form } = cut;
      read = { ok: true, input: prefix + cut.shown, proxy: made.proxy, form, hasScheme: prefix !== "" };
    }
  }
  // "192.0.2.1:1080:socks5:DE" has no form that is known here, and its proxy is not an http proxy.
  if (read?.form === "host:port:user:password" && schemeOf(read.proxy.username ?? "") !== undefined)
    return { ok: false, input: masked(text), why: "names a protocol where a user name was expected" };
  return read ?? { ok: false, input: masked(text), why: why ?? notAnAddress };
}

/**
 * The part of an unreadable text that may be shown: a recognisable address, or a word. The remainder could be
 * credentials.
 */
export function masked(text: string): string {
  if (/^[\p{L}-]+$/u.test(text)) return text;
  const { prefix, name, body } = splitScheme(text);
  const known = schemeOf(name) === undefined ? "" : prefix;
  const at = body.lastIndexOf("@");
  const [host = "", port = "", ...more] = fieldsOf(body.slice(at + 1));
  const isLiteral = isLiteralAddress(host);
  const isNumber = /^\d{0,6}$/.test(port);
  if (at >= 0) {
    const isTail = isLiteral && isNumber && more.length === 0 && !/:\d+(:|$)/.test(body.slice(0, at));
    return isTail ? `${known}***@${body.slice(at + 1)}` : `${known}***`;
  }
  if (isUnbracketedIpv6(body)) return text;
  if (isLiteral && more.length > 0 && typeof portOf(port) === "number") return `${known}${host}:${port}:***`;
  if (!isCertainlyHost(host) || more.length > 0) return `${known}***`;
  // "192.0.2.1-8080-user-pass" is a valid host name.
  const isName = !/^\d+\.\d/.test(host) && (port === "" || typeof portOf(port) === "number");
  const isShown = isLiteral ? isNumber : isName;
  if (isShown) return text;
  return isLiteral || /^[a-z]/i.test(host) ? `${known}${host}:***` : `${known}***`;
}

/** Whether the text begins and ends like an entry, possibly an invalid one, and not like a piece of credentials. */
export function looksWhole(text: string): boolean {
  const { body } = splitScheme(text);
  const [host = "", port = ""] = fieldsOf(body.slice(body.lastIndexOf("@") + 1));
  return isCertainlyHost(host) && /^\d*$/.test(port);
}

/** Whether it has more than host:port, and no address at its end. */
export function mayEndWithPassword(text: string): boolean {
  const { body } = splitScheme(text);
  return body.includes("@") ? /:\d+(:|$)/.test(body.slice(0, body.indexOf("@"))) : fieldsOf(body).length > 2;
}

export function isCountryCode(text: string): boolean {
  return /^[a-z]{2}$/i.test(text);
}

/** The escapes that decodeURIComponent accepts: ASCII, then RFC 3629's table of well-formed sequences. */
const characters =
  /%[0-7][0-9a-f]|%(?:c[2-9a-f]|d[0-9a-f])%[89ab][0-9a-f]|(?:%e0%[ab]|%ed%[89]|%e[1-9abcef]%[89ab])[0-9a-f]%[89ab][0-9a-f]|(?:%f0%[9ab]|%f[123]%[89ab]|%f4%8)[0-9a-f](?:%[89ab][0-9a-f]){2}/gi;

interface Cut {
  form: Form;
  host: string;
  port: string;
  username?: string;
  password?: string;
  country?: string | undefined;
  shown: string;
}

/** For every form: its cut, or why it does not fit. The first reason is the one to report. */
function cutsOf(body: string, { inUrl }: { inUrl: boolean }): (Cut | string)[] {
  if (isUnbracketedIpv6(body)) return [unbracketed];
  const at = body.lastIndexOf("@");
  const fields = fieldsOf(body);
  const [host = "", port = ""] = fields;
  if (at < 0 && fields.length < 4) {
    const end = endpoint(body, inUrl);
    return [typeof end === "string" ? end : { form: "host:port", ...end, shown: body }];
  }
  // A literal address is never a user name: "192.0.2.1:99999:user:ab:12" has a wrong port.
  const beginsAsAddress = isLiteralAddress(host) && /^\d+$/.test(port);
  const byColons = fields.length < 4 ? [] : colonCuts(body, fields, { beginsAsAddress });
  const byAt = at < 0 ? [] : atCuts(body, at, { inUrl, beginsAsAddress });
  // "user:80:x:y@192.0.2.1:99999" has a wrong port. Its host is not "user".
  const isAtEnd = !isCertainlyHost(host) && isCertainlyHost(fieldsOf(body.slice(at + 1))[0] ?? "");
  if (at >= 0 && isAtEnd && byAt.every((cut) => typeof cut === "string")) return byAt;
  return beginsAsAddress ? [...byColons, ...byAt] : [...byAt, ...byColons];
}

/** host:port:user:password and user:password:host:port */
function colonCuts(
  body: string,
  [host = "", port = "", username = "", ...rest]: readonly string[],
  { beginsAsAddress }: { beginsAsAddress: boolean },
): (Cut | string)[] {
  const shown = `${host}:${port}:${shownName(username)}:***`;
  const isPort = typeof portOf(port) === "number";
  const first: Cut = { form: "host:port:user:password", host, port, username, password: rest.join(":"), shown };
  const end = endOf(body);
  const last = end ?? { host: "", port: "" };
  const isLastAddress = isCertainlyHost(last.host) && typeof portOf(last.port) === "number";
  const isWrongPort = beginsAsAddress || (isCertainlyHost(host) && /^\d+$/.test(port) && !isLastAddress);
  if (isPort && canonicalHost(host) !== undefined) {
    // "user:1234:192.0.2.1:8080" has a valid port in both places. Nothing tells which of them is the port.
    const isRival = isLiteralAddress(last.host) || (isLastAddress && !isCertainlyHost(host));
    return [isRival ? ambiguous(first.form, "user:password:host:port") : first];
  }
  const second = end === undefined || isWrongPort ? [] : [end];
  if (isPort || isCertainlyHost(host)) return [first, ...second];
  return second.length > 0 && typeof portOf(last.port) === "number" ? second : [unreadable];
}

/** user:password@host:port (the last @ ends the credentials) and host:port@user:password (the first @ begins them). */
function atCuts(
  body: string,
  at: number,
  { inUrl, beginsAsAddress }: { inUrl: boolean; beginsAsAddress: boolean },
): (Cut | string)[] {
  const cuts: (Cut | string)[] = [];
  const tail = body.slice(at + 1);
  const end = endpoint(tail, inUrl);
  const isEndAddress = typeof end !== "string" && isCertainlyHost(end.host);
  const first = body.indexOf("@");
  const begin = endpoint(body.slice(0, first), false);
  const behind = body.slice(first + 1);
  const isReversed =
    typeof begin !== "string" &&
    begin.country === undefined &&
    isCertainlyHost(begin.host) &&
    behind.includes(":") &&
    !(first === at && isEndAddress);
  if (isReversed) {
    const { username, password } = credentialsIn(behind);
    const shown = `${body.slice(0, first)}@${shownName(username)}:***`;
    cuts.push({ form: "host:port@user:password", ...begin, ...decoded({ username, password }), shown });
  }
  if (typeof end === "string") cuts.push(end);
  else if (!(isReversed && first === at) && !(beginsAsAddress && !isEndAddress)) {
    const { username, password } = credentialsIn(body.slice(0, at));
    const shown = `${shownName(username)}${body.slice(0, at).includes(":") ? ":***" : ""}@${tail}`;
    cuts.push({ form: "user:password@host:port", ...end, ...decoded({ username, password }), shown });
  }
  return cuts;
}

function addressOf({ host, port, username, password, country }: Cut, scheme: Scheme) {
  const labels = country === undefined ? {} : { country };
  return proxyFromParts({ scheme, host, port, username, password, labels });
}

/**
 * host:port or host:port:CC, or why the text is neither. In a URL also with a final "/" and a fragment, as glider
 * writes "#priority=100".
 */
function endpoint(text: string, inUrl: boolean): Pick<Cut, "host" | "port" | "country"> | string {
  const bare = inUrl ? text.replace(/#.*$/s, "").replace(/\/$/, "") : text;
  if (isUnbracketedIpv6(bare)) return unbracketed;
  const [host = "", port = "", country, ...more] = fieldsOf(bare);
  if (host === "" && bare !== "") return "has no host (expected host:port)";
  if (canonicalHost(host) === undefined) return notAnAddress;
  if (port === "") return noPort;
  if (inUrl && /[/?]/.test(port)) return "has a path after its port (expected scheme://host:port)";
  const number = portOf(port);
  if (typeof number === "string") return number;
  const isCountry = country === undefined || (more.length === 0 && isCountryCode(country));
  return isCountry ? { host, port, country } : notACountry;
}

function ambiguous(one: Form, other: Form): string {
  return `could be ${one} or ${other} (${escapeAdvice})`;
}

function splitScheme(text: string): { prefix: string; name: string; body: string } {
  if (!text.includes("://")) return { prefix: "", name: "", body: text };
  const [prefix = "", name = ""] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text) ?? [];
  return { prefix, name, body: text.slice(prefix.length) };
}

/** The fields between colons. Brackets at the beginning keep the colons inside them. */
function fieldsOf(text: string): string[] {
  const bracketed = text.startsWith("[") ? /^\[[^\]]*\](?=:|$)/.exec(text)?.[0] : undefined;
  if (bracketed === undefined) return text.split(":");
  return [bracketed, ...text.slice(bracketed.length).split(":").slice(1)];
}

/** user:password:host:port: the last two fields and the text before them. */
function endOf(text: string): Cut | undefined {
  const colon = text.lastIndexOf(":");
  const rest = text.slice(0, colon);
  const start = rest.endsWith("]") ? rest.lastIndexOf("[") : rest.lastIndexOf(":") + 1;
  if (start < 1 || text[start - 1] !== ":") return undefined;
  const [host, port] = [rest.slice(start), text.slice(colon + 1)];
  const { username, password } = credentialsIn(rest.slice(0, start - 1));
  const shown = `${shownName(username)}:***:${host}:${port}`;
  return { form: "user:password:host:port", host, port, username, password, shown };
}

/** The first colon ends the user name. */
function credentialsIn(text: string): { username: string; password: string } {
  const colon = text.indexOf(":");
  if (colon < 0) return { username: text, password: "" };
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function shownName(username: string): string {
  return username === "" ? "" : maskedName(percentDecoded(username));
}

function decoded({ username, password }: { username: string; password: string }) {
  return { username: percentDecoded(username), password: percentDecoded(password) };
}

/** An IPv6 address without brackets, with or without a port, so that its port cannot be told apart. */
function isUnbracketedIpv6(text: string): boolean {
  const colon = text.lastIndexOf(":");
  if (text.startsWith("[") || text.indexOf(":") === colon) return false;
  return isLiteralAddress(text) || (isLiteralAddress(text.slice(0, colon)) && /^\d+$/.test(text.slice(colon + 1)));
}

/** Decodes each escape that encodes a UTF-8 character. Any other "%" is literal. */
function percentDecoded(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(characters, decodeURIComponent);
}
