// May a body be read as a list of proxies? Its content decides. Its content type matters in one case only: content that
// looks like JSON and is not may still be a list of lines (`text/plain`, `text/csv`).
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { parseJson } from "../../protocol/request.ts";

/** Undefined if it may be read as a list. */
export function refusalOfList(text: string, contentType: string): Refusal | undefined {
  if (text.trim() === "") return isText(contentType) ? undefined : noList;
  if (!mustBeJson(text, contentType)) return undefined;
  const parsed = parseJson(text);
  if ("refusal" in parsed) return isJsonLines(text) ? undefined : parsed.refusal;
  const { value } = parsed;
  const isList = typeof value === "object" && value !== null && (Array.isArray(value) || Object.keys(value).length > 0);
  return isList ? undefined : noList;
}

/** Whether all of it is parsed to check it. @param beginning of the text. */
export function mustBeJson(beginning: string, contentType: string): boolean {
  const claimsJson = /^\s*[\w.+-]+\/([\w.-]+\+)?json\b/i.test(contentType);
  return claimsJson || (!isText(contentType) && beginsLikeJson(beginning));
}

function isText(contentType: string): boolean {
  return /^\s*text\/(plain|csv)\b/i.test(contentType);
}

const noList = refuse(
  "invalid-request",
  'proxies: the list is empty or not a list. Send lines as text/plain, a JSON array, or {"proxies": [...]}.',
  { field: "proxies" },
);

/** A line may begin with `[` as well: [2001:db8::1]:80. */
function beginsLikeJson(text: string): boolean {
  return /^\s*([{"]|\[(?![0-9a-f.]*:[0-9a-f:.]*\]))/i.test(text);
}

/** One JSON value per line is a list, though the whole is not a JSON document. */
function isJsonLines(text: string): boolean {
  const [first = ""] = text.trimStart().split(/[\r\n]/, 1);
  return first !== text.trim() && "value" in parseJson(first);
}
