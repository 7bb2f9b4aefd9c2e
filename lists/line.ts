// A line of a proxy list. The form of the line is decided first, in this order. Only then is the line cut:
//
//   socks5 192.0.2.1 1080 user pass         fields, as in proxychains.conf
//   http://user:pa,ss@192.0.2.1:80          one URL: a comma is legal in its password
//   192.0.2.1:80,US,New York 192.0.2.2:80   entries, each perhaps with labels
//
// If a separator may be inside a password, or words are in the place of credentials or a protocol, the line is
// rejected as a whole: nothing of it may be stored in the wrong place. A password must never be in `input` or `why`. A
// user name may be there in its masked form only.

import type { Scheme } from "../events/proxy.ts";
import { canonicalHost, isCertainlyHost, isLiteralAddress, type ProxyAddress } from "../protocol/host.ts";
import { maskedName, portOf, proxyFromParts, schemeOf } from "./address.ts";
import {
  type EntryReading,
  escapeAdvice,
  isCountryCode,
  looksWhole,
  masked,
  mayEndWithPassword,
  notAnAddress,
  readEntry,
} from "./entry.ts";

export type LineEntry = { ok: true; input: string; proxy: ProxyAddress } | { ok: false; input: string; why: string };

const lineLengthMax = 4096; // characters; ten times the longest plausible entry
const shownLengthMax = 200; // of an entry that is refused: enough to find it, and a hundred of them fit into one reply

const separatorInPassword = `has a separator in a text that may be its password (${escapeAdvice}: %2C for a comma, %3B for a semicolon; or put each entry on a line of its own)`;
const strayWords = "has unexpected words beside its proxy (expected host:port, or host port user password)";
const strayProtocol = "names a protocol apart from its proxy (write socks5://host:port)";

/** The settings of proxychains.conf, which are not entries. */
const settings =
  /^(\[ProxyList\]|(strict|dynamic|random|round_robin)_chain|chain_len\b.*|quiet_mode|proxy_dns\w*( .*)?|remote_dns_subnet\b.*|tcp_\w+_time_out\b.*|(localnet|dnat) .*)$/i;
/** "192.0.2.1:80 US-N-S! +", as in the lists of spys.me: country, anonymity, TLS, Google. */
const spys = /^(\S+) ([A-Z]{2})-[NAH](?:-S)?!?(?: [+-])?$/;

/**
 * All entries on one line. Empty for a blank line or comment. `input` is the text that was read, its password masked as
 * ***.
 * @param scheme of entries without one. Never throws.
 */
export function parseProxyLine(line: string, scheme: Scheme = "http"): LineEntry[] {
  if (line.length > lineLengthMax) {
    return [{ ok: false, input: "***", why: `is longer than ${lineLengthMax} characters` }];
  }
  const text = withoutComment(line).trim();
  if (!/[^,;\s]/.test(text) || settings.test(text)) return [];
  if (!/[,;\s]/.test(text)) return [settled(readEntry(text, scheme))];
  const fields = readFieldsOf(text.split(/\s+/), scheme);
  if (fields !== undefined) return [settled(fields)];
  return readPieces(text.replace(spys, "$1,$2"), scheme);
}

/** The line as it may be shown: every password, and every text that could be one, is ***. */
export function maskInput(input: string): string {
  return parseProxyLine(input)
    .map((entry) => entry.input)
    .join(" ");
}

function withoutComment(line: string): string {
  const text = line.replace(/^\uFEFF/, "");
  return text.includes("#") ? text.replace(/(^|\s)#[^\r\n]*/g, "$1") : text;
}

/** [scheme] host port [user password]. Undefined if the fields do not begin in this form. */
function readFieldsOf(fields: readonly string[], scheme: Scheme): LineEntry | undefined {
  const named = schemeOf(fields[0] ?? "");
  const [host = "", port = "", ...credentials] = named === undefined ? fields : fields.slice(1);
  // Without a scheme before it a single word is not a host: "Page 12".
  const isHost = named === undefined ? isCertainlyHost(host) : canonicalHost(host) !== undefined;
  if (!isHost || !/^\d{1,6}$/.test(port)) return undefined;
  const prefix = named === undefined ? "" : `${fields[0]} `;
  const refused = (why: string): LineEntry => {
    const isPortShown = typeof portOf(port) === "number" || isLiteralAddress(host);
    return {
      ok: false,
      input: `${prefix}${host} ${isPortShown ? port : "***"}${credentials.map(() => " ***").join("")}`,
      why,
    };
  };
  const [username, password, ...more] = credentials;
  if (credentials.length === 1 || more.length > 0)
    return refused(`has ${fields.length} fields (expected [scheme] host port [user password])`);
  if (isCertainlyHost(username ?? "") && typeof portOf(password ?? "") === "number")
    return refused("could be host port user password or two entries of host and port (write host:port)");
  const made = proxyFromParts({ scheme: named ?? scheme, host, port, username, password });
  if (!made.ok) return refused(made.why);
  return {
    ok: true,
    input: `${prefix}${host} ${port}${username === undefined ? "" : ` ${maskedName(username)} ***`}`,
    proxy: made.proxy,
  };
}

/** `after`: the separators between this piece and the next. */
type Piece = { text: string; after: string } & (
  | { kind: "entry"; reading: EntryReading & { ok: true } }
  | { kind: "broken"; why: string }
  | { kind: "word" }
  | { kind: "unclear" }
);

function readPieces(text: string, scheme: Scheme): LineEntry[] {
  const texts = [...text.matchAll(/([^,;\s]+)([,;\s]*)/g)].map(([, piece = "", after = ""]) => ({
    text: piece,
    after,
  }));
  if (texts.some((piece) => isProtocol(piece.text))) return [readWithProtocol(texts, text)];
  // Words alone, as in a text. No address has none of these characters.
  if (!/[:@.]|localhost/i.test(text)) return [refusal(masked(text.replace(/^[,;\s]+/, "")), notAnAddress)];
  const readings = texts.map((piece) => readEntry(piece.text, scheme));
  if (readings[0]?.ok === false && !looksWhole(texts[0]?.text ?? "") && !/\s|:\/\/.*:\/\//.test(text)) {
    const url = readEntry(text, scheme);
    if (url.ok && url.hasScheme) return [settled(url)];
  }
  // Next to markup, a style sheet or JSON, "z-index:10" is not a proxy. On a line of its own "squid:3128" is one.
  const arePlain = !/[<>{}"@]/.test(text) && readings.every((each) => !each.ok || each.form === "host:port");
  const pieces = texts.map((piece, index) => classified(piece, readings[index], arePlain));
  return assembled(pieces, /^[,;]/.test(text)) ?? [refusal(masked(text), separatorInPassword)];
}

function classified(
  piece: { text: string; after: string },
  reading: EntryReading | undefined,
  arePlain: boolean,
): Piece {
  if (reading?.ok && (reading.hasScheme || arePlain || isCertainlyHost(reading.proxy.host)))
    return { ...piece, kind: "entry", reading };
  if (reading?.ok === false && looksWhole(piece.text)) return { ...piece, kind: "broken", why: reading.why };
  return /[:@]/.test(piece.text) ? { ...piece, kind: "unclear" } : { ...piece, kind: "word" };
}

/** The entries of a line. Undefined if a separator may be inside credentials. */
function assembled(pieces: readonly Piece[], isCutBefore: boolean): LineEntry[] | undefined {
  const entries: LineEntry[] = [];
  let wordsAt: number | undefined;
  let before: Piece | undefined = isCutBefore ? { text: "", after: "", kind: "word" } : undefined;
  for (let index = 0; index < pieces.length; ) {
    const piece = pieces[index];
    if (piece === undefined || piece.kind === "unclear") return undefined;
    if (piece.kind === "word") {
      // Consecutive words are one refusal.
      if (wordsAt !== index - 1) entries.push(refusal(pieces.length === 1 ? masked(piece.text) : "***", notAnAddress));
      wordsAt = index++;
    } else if (piece.kind === "broken") {
      const isLast = pieces[index + 1] === undefined && !/[,;]/.test(piece.after);
      if (!isLast && mayEndWithPassword(piece.text)) return undefined;
      entries.push(refusal(masked(piece.text), piece.why));
      index++;
    } else {
      if (!mayFollow(before, piece)) return undefined;
      const { entry, next } = labelled(pieces, index, piece.reading);
      if (endsWithPassword(piece) && /[,;]/.test(piece.after) && pieces[next] === undefined) return undefined;
      if (endsWithPassword(piece) && pieces[next] !== undefined && !isAlike(piece, pieces[next])) return undefined;
      entries.push(entry);
      index = next;
    }
    before = piece;
  }
  const readable = entries.filter(({ ok }) => ok).length;
  if (wordsAt === undefined || (readable > 1 && pieces[0]?.kind !== "word")) return entries;
  const text = pieces.map((piece) => piece.text + piece.after).join("");
  return [refusal(masked(text), readable === 0 ? notAnAddress : strayWords)];
}

/** "user:pa,ss@192.0.2.1:80": an entry that begins with credentials may continue the text before it. */
function mayFollow(before: Piece | undefined, piece: Piece & { kind: "entry" }): boolean {
  if (before === undefined || beginsWithAddress(piece)) return true;
  if (before.kind === "broken") return /^[\d.]+:\d+$/.test(before.text);
  return (
    before.kind === "entry" && (before.reading.form !== "host:port" || isLiteralAddress(before.reading.proxy.host))
  );
}

function beginsWithAddress(piece: Piece): boolean {
  if (piece.kind !== "entry") return false;
  const { form, hasScheme } = piece.reading;
  return hasScheme || form.startsWith("host:port");
}

/**
 * "192.0.2.1:80:user:pa,192.0.2.2:80": after a password, only an entry of the same form, or a URL, is certainly not
 * part of the password.
 */
function isAlike({ reading }: Piece & { kind: "entry" }, next: Piece): boolean {
  return next.kind === "entry" && (next.reading.hasScheme || next.reading.form === reading.form);
}

/** Also "192.0.2.1:80@host.example:80,x": an address, then perhaps a user name and a password with a separator. */
function endsWithPassword({ reading }: Piece & { kind: "entry" }): boolean {
  const { username = "", password = "" } = reading.proxy;
  return reading.form.endsWith("password") || (isLiteralAddress(username) && typeof portOf(password) === "number");
}

/** "socks5 192.0.2.1:1080" and "192.0.2.1:1080 socks5". A protocol anywhere else is not understood. */
function readWithProtocol(pieces: readonly { text: string }[], text: string): LineEntry {
  const [entry, ...others] = pieces.filter((piece) => !isProtocol(piece.text));
  const scheme = pieces.map((piece) => schemeOf(piece.text)).find((each) => each !== undefined);
  if (entry !== undefined && others.length === 0 && pieces.length === 2 && scheme !== undefined) {
    const reading = readEntry(entry.text, scheme);
    if (!reading.ok) return settled(reading);
    if (!reading.hasScheme && !reading.form.endsWith("password")) return settled(reading);
  }
  return refusal(masked(text), strayProtocol);
}

function isProtocol(text: string): boolean {
  return /^(https?|socks[\w/.-]*)$/i.test(text);
}

/** The entry with its optional `,CC` or `,CC,City`. */
function labelled(pieces: readonly Piece[], index: number, reading: EntryReading & { ok: true }) {
  const { labels, next } = labelsAt(pieces, index, reading);
  const made = proxyFromParts({ ...reading.proxy, labels: { ...reading.proxy.labels, ...labels } });
  const shown = pieces.slice(index + 1, next);
  const input = reading.input + (shown.length > 0 ? (pieces[index]?.after ?? "") : "") + joined(shown);
  const entry: LineEntry = made.ok
    ? { ok: true, input: printable(input), proxy: made.proxy }
    : refusal(input, made.why);
  return { entry, next };
}

function labelsAt(pieces: readonly Piece[], index: number, { proxy, form }: EntryReading & { ok: true }) {
  const country = pieces[index + 1];
  const isFree = proxy.labels["country"] === undefined && !form.endsWith("password");
  if (!isFree || country === undefined || !leadsToField(pieces[index]?.after) || !isCountryCode(country.text)) {
    return { labels: {}, next: index + 1 };
  }
  const start = index + 2;
  let end = start;
  if (leadsToField(country.after)) {
    for (let word = pieces[end]; word !== undefined && isCityWord(word); word = pieces[end]) {
      end += 1;
      if (/[,;]/.test(word.after)) break;
    }
  }
  const city = joined(pieces.slice(start, end));
  // A postal code or a number is not a city.
  const hasCity = /\p{L}/u.test(city);
  return { labels: { country: country.text, ...(hasCity && { city }) }, next: hasCity ? end : start };
}

function leadsToField(separator = ""): boolean {
  return /^[^\S\r\n]*[,;][^\S\r\n]*$/.test(separator);
}

function isCityWord(piece: Piece): boolean {
  return /^[\p{L}\p{M}\p{N}.'’()/-]+$/u.test(piece.text) && !isLiteralAddress(piece.text);
}

/** The pieces with the separators between them. */
function joined(pieces: readonly Piece[]): string {
  return pieces.map((piece, index) => (index < pieces.length - 1 ? piece.text + piece.after : piece.text)).join("");
}

function settled(reading: EntryReading | LineEntry): LineEntry {
  if (!reading.ok) return refusal(reading.input, reading.why);
  return { ok: true, input: printable(reading.input), proxy: reading.proxy };
}

function refusal(shown: string, why: string): LineEntry {
  const input = printable(shown);
  return { ok: false, input: input.length > shownLengthMax ? `${input.slice(0, shownLengthMax - 1)}…` : input, why };
}

/**
 * The text goes to terminals and logs: no control characters, no marks that change the writing direction, no lone
 * surrogates.
 */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\uFFFD");
}
