// Proxy lists over HTTP: all that the importer reads, sent on in slices. What a body is shows in itself; its content type
// only decides whether one that looks like JSON and is none may be a list of lines after all (`text/plain`, `text/csv`).
//
// A long list is read as it is sent, so that the process is never busy with one for longer than a slice takes.
import { type AddReply, type RejectedEntry, rejectedListedMax } from "../../events/proxy.ts";
import type { SplitRow } from "../../events/proxy-csv.ts";
import { proxyUrl } from "../../events/proxy-line.ts";
import { type ListEntry, readList } from "../../events/proxy-list.ts";
import { type Refusal, refuse } from "../../events/refusal.ts";
import { parseJson } from "../../events/request.ts";
import type { Ask } from "./ask.ts";
import { askInSlices, type Sized, slicesOf } from "./slices.ts";

const entriesMax = 2000;

/** Undefined: it may be read as a list. */
export function judgeList(text: string, contentType: string): Refusal | undefined {
  const isText = /^\s*text\/(plain|csv)\b/i.test(contentType);
  if (text.trim() === "") return isText ? undefined : noList;
  const claimsJson = /^\s*[\w.+-]+\/([\w.-]+\+)?json\b/i.test(contentType);
  if (!claimsJson && (isText || !beginsLikeJson(text))) return undefined;
  const parsed = parseJson(text);
  if ("refusal" in parsed) return isJsonLines(text) ? undefined : parsed.refusal;
  const { value } = parsed;
  const isList = typeof value === "object" && value !== null && (Array.isArray(value) || Object.keys(value).length > 0);
  return isList ? undefined : noList;
}

const noList = refuse(
  "invalid-request",
  'proxies: there are none. Send lines as text/plain, a JSON array, or {"proxies": [...]}.',
  { field: "proxies" },
);

export async function addList(
  ask: Ask,
  given: { pool: string; text: string; splitRow: SplitRow },
): Promise<AddReply | Refusal> {
  const { pool, text, splitRow } = given;
  const total = { added: 0, already: 0, updated: 0, rejectedCount: 0 };
  const rejected: RejectedEntry[] = [];
  const list = (entry: RejectedEntry): void => {
    if (rejected.length < rejectedListedMax) rejected.push(entry);
  };
  const readable = function* (): Generator<Sized<ListEntry & { ok: true; sent: object }>> {
    for (const entry of readList(text, splitRow)) {
      if (entry.ok) {
        const sent = toSend(entry);
        yield { item: { ...entry, sent }, bytes: Buffer.byteLength(JSON.stringify(sent)) };
      } else {
        total.rejectedCount++;
        list({ line: lineOf(entry), input: entry.input, why: entry.why });
      }
    }
  };
  const refusal = await askInSlices(ask, {
    verb: "proxies.add",
    pool,
    slices: slicesOf(readable(), entriesMax),
    body: (slice) => ({ proxies: slice.map(({ sent }) => sent) }),
    take: (part: AddReply, slice) => {
      total.added += part.added;
      total.already += part.already;
      total.updated += part.updated;
      total.rejectedCount += part.rejectedCount;
      // A picker of another version may read less than we do.
      for (const { line, ...rest } of part.rejected) {
        const entry = slice[line - 1];
        list({ line: entry === undefined ? line : lineOf(entry), ...rest });
      }
    },
  });
  if (refusal !== undefined) return refusal;
  const { rejectedCount, ...counts } = total;
  return { ...counts, rejected: rejected.toSorted((a, b) => a.line - b.line), rejectedCount };
}

/** Of a text its line, of an array its place; from 1. */
function lineOf({ at }: ListEntry): number {
  return "line" in at ? at.line : at.index + 1;
}

/** What is not mentioned stays as it is, where the proxy is known. */
function toSend({ proxy: { labels, ...address }, allLabels, limits }: ListEntry & { ok: true }): object {
  return {
    url: proxyUrl(address),
    ...(allLabels === true || Object.keys(labels).length > 0 ? { labels } : {}),
    ...(limits === undefined ? {} : { limits }),
  };
}

/** A line may begin with `[` as well: [2001:db8::1]:80. */
function beginsLikeJson(text: string): boolean {
  return /^\s*([{"]|\[(?![0-9a-f.]*:[0-9a-f:.]*\]))/i.test(text);
}

/** One JSON value per line is a list, though the whole is no document. */
function isJsonLines(text: string): boolean {
  const [first = ""] = text.trimStart().split(/[\r\n]/, 1);
  return first !== text.trim() && "value" in parseJson(first);
}
