// Reading a source's answer as its description says: the value, and how long it lives. The answer comes from outside and
// the description from whoever may write a policy: neither can make this fail in any other way than with a word for it.
import { runInNewContext } from "node:vm";
import type { TokenSource, TokenValue, WhyRefused } from "../../events/token.ts";

export interface Answer {
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

export type TokenRead = { value: string; lifeMs?: number } | { why: WhyRefused };

type Place = Pick<TokenValue, "jsonPointer" | "header" | "regex">;

export const valueCharsMax = 16_384;
const lifeMsMax = 366 * 86_400_000;
/** An expression may backtrack without end: this is what ends it. */
const regexMs = 250;
const utf8 = new TextDecoder("utf-8", { fatal: true });

export function readToken(answer: Answer, source: Pick<TokenSource, "value" | "life">): TokenRead {
  const read = readAt(answer, source.value);
  if ("why" in read) return read;
  const value = typeof read.found === "number" ? String(read.found) : read.found;
  // It is to be sent in a header, or a URL: what cannot be is no token.
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
  const told = readAt(answer, life);
  if ("why" in told) return told;
  const amount =
    typeof told.found === "string" && /^\s*\d+(\.\d+)?\s*$/.test(told.found) ? Number(told.found) : told.found;
  if (typeof amount !== "number" || !(amount > 0)) return { why: "no-life" };
  return { value, lifeMs: Math.min(lifeMsMax, Math.floor(amount * (life.unit === "ms" ? 1 : 1000))) };
}

function readAt({ headers, body }: Answer, place: Place): { found: unknown } | { why: WhyRefused } {
  if (place.header !== undefined) {
    const header = headers[place.header.toLowerCase()];
    return { found: Array.isArray(header) ? header[0] : header };
  }
  let text: string;
  try {
    text = utf8.decode(body);
  } catch {
    return { why: "unreadable" };
  }
  if (place.regex !== undefined) return { found: firstMatch(text, place.regex) };
  try {
    return { found: at(JSON.parse(text), place.jsonPointer ?? "") };
  } catch {
    return { why: "unreadable" };
  }
}

/** RFC 6901. */
function at(document: unknown, pointer: string): unknown {
  let found = document;
  for (const part of pointer.split("/").slice(1)) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key]; // An array's indexes are keys of it as well.
  }
  return found;
}

function firstMatch(text: string, regex: string): unknown {
  try {
    const found: unknown = runInNewContext(
      'const found = new RegExp(regex, "u").exec(text); found && (found.length > 1 ? found[1] : found[0])',
      { text, regex },
      { timeout: regexMs },
    );
    return typeof found === "string" ? found : undefined;
  } catch {
    return undefined; // It took too long: nothing was found.
  }
}
