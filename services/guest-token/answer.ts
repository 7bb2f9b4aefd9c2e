// Reads a token from a source's answer, as the source's description says: the value, and how long it lives. The answer
// and the description are untrusted: one comes from outside, the other from any user that may write a policy. Neither
// can cause a failure other than a named reason.
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from "node:zlib";
import type { WhyRefused } from "../../events/token.ts";
import type { TokenSource, TokenValue } from "../../events/token-policy.ts";
import { codeOf } from "../../runtime/fault.ts";
import { charsetOf } from "./charset.ts";
import type { Expressions } from "./expressions.ts";

export interface Answer {
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

export type TokenRead = { value: string; lifeMs?: number } | { why: WhyRefused };

type Place = Pick<TokenValue, "jsonPointer" | "header" | "regex">;
type Page = { bytes: Buffer } | { why: WhyRefused };

const valueCharsMax = 16_384;
export const answerBytesMax = 1024 * 1024;
/** Headers of one name that are tried. An expression may take its whole time with each. */
const valuesMax = 20;
const lifeMsMax = 366 * 86_400_000;

type Ports = { expressions: Pick<Expressions, "firstMatch"> };

export async function readToken(
  answer: Answer,
  source: Pick<TokenSource, "value" | "life">,
  { expressions }: Ports,
): Promise<TokenRead> {
  const read = { headers: answer.headers, page: pageOf(answer), expressions };
  const told = await readAt(read, source.value);
  if ("why" in told) return told;
  const value = typeof told.found === "number" ? String(told.found) : told.found;
  // A token is sent in a header or a URL. A value that cannot be sent there is not a token.
  if (
    typeof value !== "string" ||
    !/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value) ||
    value.length > valueCharsMax
  ) {
    return { why: "no-value" };
  }
  const { life } = source;
  if (life === null) return { value };
  if (life.ms !== undefined) return { value, lifeMs: life.ms };
  const lived = await readAt(read, life);
  if ("why" in lived) return lived;
  const { found } = lived;
  const amount = typeof found === "string" && /^\s*\d+(\.\d+)?\s*$/.test(found) ? Number(found) : found;
  if (typeof amount !== "number" || !(amount > 0)) return { why: "no-life" };
  return { value, lifeMs: Math.min(lifeMsMax, Math.floor(amount * (life.unit === "ms" ? 1 : 1000))) };
}

async function readAt(
  { headers, page, expressions }: Ports & { headers: Answer["headers"]; page: Page },
  place: Place,
): Promise<{ found: unknown } | { why: WhyRefused }> {
  const { header, regex, jsonPointer } = place;
  if (header !== undefined) return { found: await readHeader(headers, { header, regex }, expressions) };
  if ("why" in page) return page;
  try {
    const charset = charsetOf(headers["content-type"], page.bytes);
    // An expression finds its match even on a page with a few wrong bytes. A document of JSON must be right as a whole.
    const text = new TextDecoder(charset, { fatal: regex === undefined }).decode(page.bytes);
    if (regex !== undefined) return { found: await expressions.firstMatch(text, regex) };
    return { found: at(parseJson(text), jsonPointer ?? "") };
  } catch {
    return { why: "unreadable" };
  }
}

/** The first of several headers of that name, or the first in which the expression finds a match. */
async function readHeader(
  headers: Answer["headers"],
  { header, regex }: { header: string; regex: string | undefined },
  expressions: Ports["expressions"],
): Promise<string | undefined> {
  const name = header.toLowerCase();
  const values = [headers[name] ?? []].flat();
  // A cookie has attributes. A policy that is older than this rule may ask for a cookie as a whole.
  if (regex === undefined) return name === "set-cookie" ? undefined : values[0];
  for (const value of values.slice(0, valuesMax)) {
    const found = await expressions.firstMatch(value, regex);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A source with a browser's copied headers asks for a compressed answer. */
const decoders: Record<string, (body: Buffer, bound: { maxOutputLength: number }) => Buffer> = {
  gzip: gunzipSync,
  "x-gzip": gunzipSync,
  deflate: inflateSync,
  br: brotliDecompressSync,
  zstd: zstdDecompressSync,
};

function pageOf({ headers, body }: Answer): Page {
  const encoding = String(headers["content-encoding"] ?? "identity").toLowerCase();
  if (encoding === "identity" || body.length === 0) return { bytes: body };
  const decode = Object.hasOwn(decoders, encoding) ? decoders[encoding] : undefined;
  if (decode === undefined) return { why: "unreadable" };
  try {
    return { bytes: decode(body, { maxOutputLength: answerBytesMax }) };
  } catch (error) {
    return { why: codeOf(error) === "ERR_BUFFER_TOO_LARGE" ? "too-large" : "unreadable" };
  }
}

/** A number that a double cannot hold exactly stays as it is written: it may be a token. */
function parseJson(text: string): unknown {
  return JSON.parse(text, ((_key: string, value: unknown, { source }: { source?: string }) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(source ?? "") ? source : value) as (
    key: string,
    value: unknown,
  ) => unknown);
}

/** RFC 6901. */
function at(document: unknown, pointer: string): unknown {
  let found = document;
  for (const part of pointer.split("/").slice(1)) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key]; // An array's indexes are keys of it too.
  }
  return found;
}
