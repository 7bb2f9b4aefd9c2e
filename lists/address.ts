// A proxy's address: where it is reached, its credentials, and the labels from its source. Addresses from every source
// (a line, CSV, JSON) are built here and nowhere else. So two spellings of one proxy are one value, and nothing invalid
// is ever stored. A `why` is the end of a sentence that begins with the input ("… has no port"). It never quotes a
// credential.
import type { Scheme } from "../events/proxy.ts";
import { schemes } from "../events/words.ts";
import { canonicalHost, isCertainlyHost, type ProxyAddress } from "../protocol/host.ts";
import type { ListScheme } from "../protocol/proxy.ts";
/** The parts of a proxy as a source gives them, not validated yet. An absent, null or empty part is a missing part. */
export interface ProxyParts {
  readonly scheme?: string | null | undefined;
  readonly host: string;
  readonly port: number | string | null | undefined;
  /** Decoded, like the password. */
  readonly username?: string | null | undefined;
  readonly password?: string | null | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export const unknownScheme = `has an unknown scheme (expected ${schemes.join(", ")})`;
export const noPort = "has no port (expected host:port)";
const badPort = "has a port that is not a number from 1 to 65535";

const credentialBytesMax = 255; // RFC 1929: SOCKS5 has one byte for the length
const labelNameLengthMax = 64; // a word, not a text
const labelValueLengthMax = 256;

/** Parts from CSV or JSON, validated and made canonical. */
export function proxyFromParts(parts: ProxyParts): { ok: true; proxy: ProxyAddress } | { ok: false; why: string } {
  const scheme = schemeOf(parts.scheme || "http");
  if (scheme === undefined) return { ok: false, why: unknownScheme };
  if (parts.host === "") return { ok: false, why: "has no host (expected host:port)" };
  const host = canonicalHost(parts.host);
  if (host === undefined) return { ok: false, why: "has a host that is neither an IP address nor a host name" };
  const port = portOf(parts.port ?? "");
  if (typeof port !== "number") return { ok: false, why: port };
  const username = parts.username ?? "";
  const password = parts.password ?? "";
  const whyNot = credentialFault(username, "user name") ?? credentialFault(password, "password");
  if (whyNot !== undefined) return { ok: false, why: whyNot };
  if (username === "" && password !== "") return { ok: false, why: "has a password but no user name" };
  const labels = canonicalLabels(parts.labels ?? {});
  if (typeof labels === "string") return { ok: false, why: labels };
  // On the wire "no password" and "an empty password" are the same, so they must not be two proxies.
  const credentials = { ...(username !== "" && { username }), ...(password !== "" && { password }) };
  return { ok: true, proxy: { scheme, host, port, ...credentials, labels } };
}

/** scheme://user:pass@host:port with percent-encoding, IPv6 in brackets. Parses back to the same address. */
export function proxyUrl(address: Omit<ProxyAddress, "labels">): string {
  const { username, password } = address;
  const user = username === undefined ? "" : encodeUser(username, password ?? "");
  return urlOf(address, user, password === undefined ? "" : encodeURIComponent(password));
}

/** The same for people to read: `http://ZYT…:***@host:port`. */
export function shownUrl(address: Omit<ProxyAddress, "labels">): string {
  const { username, password } = address;
  return urlOf(address, username === undefined ? "" : maskedName(username), password === undefined ? "" : "***");
}

/** The same of a proxy whose user name is masked already, as in replies and in the ledger. */
export function maskedUrl(address: Omit<ProxyAddress, "labels" | "password">): string {
  return urlOf(address, address.username ?? "", "");
}

function urlOf({ scheme, host, port }: Omit<ProxyAddress, "labels">, user: string, password: string): string {
  const login = user === "" ? "" : `${user}${password === "" ? "" : `:${password}`}@`;
  return `${scheme}://${login}${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/**
 * A user name as it may be shown and recorded: `ZYT…`. At most three of its characters, and always fewer than half of
 * them. A name of up to three characters is not shown at all.
 */
export function maskedName(username: string): string {
  const characters = [...username];
  const shown = characters.length <= 3 ? 0 : Math.min(3, Math.ceil(characters.length / 2) - 1);
  return `${characters.slice(0, shown).join("")}…`;
}

/**
 * `192.0.2.1:80@squid:3128` would be read as `host:port@user:pass`. So a user name that looks like a host is escaped.
 */
function encodeUser(username: string, password: string): string {
  const encoded = encodeURIComponent(username);
  const isLikeAddress = encoded === username && isCertainlyHost(username) && /^\d+$/.test(password);
  return isLikeAddress ? `%${username.charCodeAt(0).toString(16)}${encoded.slice(1)}` : encoded;
}

/** The scheme that a text names, in any case. `socks` is socks5. */
export function schemeOf(text: string): Scheme | undefined {
  const lower = text.toLowerCase();
  return lower === "socks" ? "socks5" : schemes.find((scheme) => scheme === lower);
}

/** The scheme of entries without one: the caller's choice, or http. */
export function listScheme(asked: ListScheme | null | undefined): Scheme {
  return schemeOf(asked ?? "http") ?? "http";
}

/** The port, or why it is not a valid port. */
export function portOf(text: number | string): number | string {
  if (text === "") return noPort;
  const port = typeof text === "number" ? text : /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isInteger(port) && port >= 1 && port <= 65_535 ? port : badPort;
}

function credentialFault(text: string, name: string): string | undefined {
  if (text === "") return undefined;
  // A line break would end a header. A lone surrogate cannot be sent at all. White space means that the line was cut in
  // the wrong place.
  if (/[\s\p{Cc}\p{Cs}]/u.test(text)) return `has white space or a control character in its ${name}`;
  const bytes = encodeURIComponent(text).replace(/%../g, "x").length;
  return bytes > credentialBytesMax ? `has a ${name} longer than ${credentialBytesMax} bytes` : undefined;
}

function canonicalLabels(labels: Readonly<Record<string, string>>): Record<string, string> | string {
  const entries: [string, string][] = [];
  for (const [name, text] of Object.entries(labels)) {
    const trimmed = text.trim();
    if (trimmed === "") continue;
    if (name === "" || name.length > labelNameLengthMax || /[\p{Cc}\p{Cs}]/u.test(name)) {
      return `has a label whose name is empty, unprintable or longer than ${labelNameLengthMax} characters`;
    }
    if (trimmed.length > labelValueLengthMax) return `has a label longer than ${labelValueLengthMax} characters`;
    if (/[\p{Cc}\p{Cs}]/u.test(trimmed)) return "has a control character in a label";
    entries.push([name, name === "country" && /^[a-z]{2}$/i.test(trimmed) ? trimmed.toUpperCase() : trimmed]);
  }
  // Sorted, so that the same labels are also the same bytes in the ledger.
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}
