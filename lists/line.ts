// A line of a proxy list, cut into entries. Separators are commas, semicolons and white space; a comma may also lead to a country and a
// city, or stand inside somebody's password. Whether a cut is right is decided by what the pieces look like on either side:
//
//   192.0.2.1:80,192.0.2.2:80          two entries: what follows has a port
//   192.0.2.1:80,US,New York           one entry with labels
//   http://user:pa,ss@192.0.2.1:80     one entry: a comma is legal in the password of a URL
//   user:pa,ss@192.0.2.1:80            refused as a whole: "ss" must be neither stored as a user name nor shown
//
// A password must never be in `input` or `why`. Garbage is refused, never stored.

import { isLiteralAddress, type ProxyAddress } from "../protocol/host.ts";
import { proxyFromParts } from "./address.ts";
import {
  type EntryReading,
  hasScheme,
  isCountryCode,
  looksWhole,
  maskUnread,
  notAnAddress,
  readEntry,
} from "./entry.ts";

export { type ProxyParts, proxyFromParts, proxyUrl } from "./address.ts";

export type LineEntry = { ok: true; input: string; proxy: ProxyAddress } | { ok: false; input: string; why: string };

const lineLengthMax = 4096; // characters; ten times the longest sensible entry
const cutsMax = 64; // separators that one password may have; without a bound a line of "a:1,a:1,…" takes quadratic time
const shownLengthMax = 200; // of an entry that is refused: enough to find it, and a hundred of them fit one reply

/** All entries on one line: none for a blank line or comment. `input` is what was read, its password masked as ***. Never throws. */
export function parseProxyLine(line: string): LineEntry[] {
  const text = line.replace(/^\uFEFF/, "");
  if (text.length > lineLengthMax) {
    return [{ ok: false, input: "***", why: `is longer than ${lineLengthMax} characters` }];
  }
  const pieces = cut(text.replace(/(^|\s)#[^\r\n]*/g, "$1"));
  const entries: LineEntry[] = [];
  for (let index = 0; index < pieces.length; ) {
    const { entry, next } = entryAt(pieces, index);
    entries.push(entry);
    index = next;
  }
  return entries;
}

/** The line as it may be shown: every password is ***, and so is whatever could be one. */
export function maskInput(input: string): string {
  return parseProxyLine(input)
    .map((entry) => entry.input)
    .join(" ");
}

interface Piece {
  readonly text: string;
  /** The separators between this piece and the next. */
  readonly after: string;
  readonly reading: EntryReading;
  readonly whole: boolean;
}

function cut(text: string): Piece[] {
  // Beside markup, a style sheet or JSON "z-index:10" is no proxy, though a line of its own with "squid:3128" is one.
  const isMarkup = /[<>{}"]/.test(text);
  return [...text.matchAll(/([^,;\s]+)([,;\s]*)/g)].map(([, piece = "", after = ""]) => {
    const read = readEntry(piece);
    const whole = looksWhole(piece, read);
    const reading: EntryReading = isMarkup && read.ok && !whole ? { ok: false, why: notAnAddress } : read;
    return { text: piece, after, reading, whole };
  });
}

/** The entry that begins at a piece, and the piece after it. */
function entryAt(pieces: readonly Piece[], index: number): { entry: LineEntry; next: number } {
  const piece = pieces[index];
  if (piece === undefined) throw new Error(`no piece ${index} of ${pieces.length}`);
  const end = credentialsEnd(pieces, index);
  if (end !== undefined) return { entry: joinedEntry(pieces.slice(index, end)), next: end };
  const { reading } = piece;
  if (isWord(piece)) return words(pieces, index, reading.ok ? notAnAddress : reading.why);
  if (!reading.ok) return { entry: refusal(maskUnread(piece.text), reading.why), next: index + 1 };
  if (reading.ending === "password") {
    const strayEnd = strayWordsEnd(pieces, index);
    if (strayEnd > index + 1) return { entry: joinedEntry(pieces.slice(index, strayEnd)), next: strayEnd };
  }
  return labelled(pieces, index, reading);
}

function isWord({ text, reading, whole }: Piece): boolean {
  return !reading.ok && !whole && !/[:@]/.test(text);
}

/** Words in a row are one refusal. Shown only if nothing else is on the line: in "192.0.2.1,80,user,pass" they are credentials. */
function words(pieces: readonly Piece[], index: number, why: string): { entry: LineEntry; next: number } {
  let next = index;
  for (let piece = pieces[next]; piece !== undefined && isWord(piece); piece = pieces[next]) next += 1;
  const shown = pieces.length === 1 ? joined(pieces) : "***";
  return { entry: refusal(shown, next > index + 1 ? notAnAddress : why), next };
}

/**
 * If this piece seems to be the beginning of credentials that a separator has cut ("user:pa" of "user:pa,ss@192.0.2.1:80"): the index
 * after the piece with which they and their address end.
 */
function credentialsEnd(pieces: readonly Piece[], index: number): number | undefined {
  const first = pieces[index];
  if (first === undefined || first.whole || !/[:@]/.test(first.text)) return undefined;
  // "user:1234" also reads as a proxy. White space after it decides: no password has any.
  if (first.reading.ok && /\s/.test(first.after)) return undefined;
  let end: number | undefined;
  for (let at = index + 1; at <= index + cutsMax; at += 1) {
    const piece = pieces[at];
    if (piece === undefined || hasScheme(piece.text)) break;
    const hasCredentials = piece.reading.ok && piece.reading.proxy.username !== undefined;
    if (piece.whole && !piece.text.includes("@") && !(hasCredentials && endsWithAddress(piece))) break;
    if (piece.text.includes("@") || hasCredentials) end = at + 1;
    if (hasCredentials) break;
  }
  return end;
}

function endsWithAddress(piece: Piece): boolean {
  return piece.reading.ok && piece.reading.ending === "address";
}

/** After "192.0.2.1:80:user:pa", words that are neither entries nor labels may be the rest of the password. */
function strayWordsEnd(pieces: readonly Piece[], index: number): number {
  if (labelsAt(pieces, index).next > index + 1) return index + 1;
  let end = index + 1;
  for (let piece = pieces[end]; piece !== undefined && !piece.reading.ok && !piece.whole; piece = pieces[end]) end += 1;
  return end;
}

function joinedEntry(pieces: readonly Piece[]): LineEntry {
  const text = joined(pieces);
  // RFC 3986 allows "," and ";" in a URL's credentials. Only if the first piece alone is nothing, though: else it would be a guess.
  if (hasScheme(text) && pieces[0]?.reading.ok === false && !/\s/.test(text)) {
    const reading = readEntry(text);
    if (reading.ok) return { ok: true, input: printable(reading.input), proxy: reading.proxy };
  }
  const why =
    "has a separator in what may be its password (write %2C for a comma, %3B for a semicolon, or one entry per line)";
  return refusal(maskUnread(text), why);
}

/** The entry with the `,CC` or `,CC,City` that may follow it. */
function labelled(pieces: readonly Piece[], index: number, reading: EntryReading & { ok: true }) {
  const { labels, next } = labelsAt(pieces, index);
  const made = proxyFromParts({ ...reading.proxy, labels: { ...reading.proxy.labels, ...labels } });
  // What follows a password that stands last may after all be part of it: read as labels, but not shown.
  const shown = reading.ending === "password" ? [] : pieces.slice(index + 1, next);
  const input = reading.input + (shown.length > 0 ? (pieces[index]?.after ?? "") : "") + joined(shown);
  const entry: LineEntry = made.ok
    ? { ok: true, input: printable(input), proxy: made.proxy }
    : refusal(input, made.why);
  return { entry, next };
}

function labelsAt(pieces: readonly Piece[], index: number): { labels: Record<string, string>; next: number } {
  const entry = pieces[index];
  const country = pieces[index + 1];
  const isFree = entry?.reading.ok && entry.reading.proxy.labels.country === undefined;
  if (!isFree || country === undefined || !leadsToField(entry.after) || !isCountryCode(country.text)) {
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
  // A postal code or a number is no city.
  const hasCity = /\p{L}/u.test(city);
  return { labels: { country: country.text, ...(hasCity && { city }) }, next: hasCity ? end : start };
}

function leadsToField(separator: string): boolean {
  return /^[^\S\r\n]*[,;][^\S\r\n]*$/.test(separator);
}

function isCityWord(piece: Piece): boolean {
  return /^[\p{L}\p{M}\p{N}.'’()/-]+$/u.test(piece.text) && !isLiteralAddress(piece.text);
}

/** The pieces with the separators between them. */
function joined(pieces: readonly Piece[]): string {
  return pieces.map((piece, index) => (index < pieces.length - 1 ? piece.text + piece.after : piece.text)).join("");
}

function refusal(masked: string, why: string): LineEntry {
  const input = printable(masked);
  return { ok: false, input: input.length > shownLengthMax ? `${input.slice(0, shownLengthMax - 1)}…` : input, why };
}

/** What was read goes to terminals and logs: no control characters, no marks that turn the direction of writing, no half characters. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\uFFFD");
}
