// Reading a request: JSON, then the schema of its verb. An unreadable request is refused with the field at fault.
import type { z } from "zod";
import { errorMessageOf } from "./error-message.ts";
import { tidied } from "./fields.ts";
import { type Refusal, refuse } from "./refusal.ts";

const nameCharsMax = 128;
/**
 * Of a parsed text, and of a list. A thread that runs out of memory while it parses ends the whole process. An empty
 * object takes ten times its text, and an open level fifty bytes.
 */
const parsedBytesMax = 320 * 1024 ** 2;
export const parsedListBytesMax = 512 * 1024 ** 2;
const containerBytes = 64;
const valueBytes = 80;
/** A text of this size cannot exceed it. */
const smallChars = 512 * 1024;

export type Read<T> = { value: T } | { refusal: Refusal };

/** An empty body is `{}`. */
export function parseJson(text: string): Read<unknown> {
  if (text.trim() === "") return { value: {} };
  if (isTooMuch(text, parsedBytesMax)) return { refusal: tooMuch };
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { refusal: notJson() };
  }
}

export const tooDeep = refuse("invalid-request", "The body is nested too deeply: no request needs so many levels.");

const tooMuch = refuse("too-large", "This JSON needs too much memory to be read. Send it in parts, or as lines.");

/**
 * Whether the parsed value, or parsing itself, would take more memory than this. Estimated from the number of its
 * objects, lists and values.
 */
export function isTooMuch(text: string, bytesMax: number): boolean {
  if (text.length <= smallChars) return false;
  let bytes = 0;
  let isInString = false;
  for (let at = 0; at < text.length && bytes <= bytesMax; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) isInString = !isInString;
    else if (isInString) at += code === 0x5c ? 1 : 0;
    else if (code === 0x5b || code === 0x7b) bytes += containerBytes;
    else if (code === 0x2c) bytes += valueBytes;
  }
  return bytes > bytesMax;
}

export function notJson(): Refusal {
  return refuse("invalid-request", "The body is not JSON; send one JSON object in UTF-8.");
}

/** Reads the body of a request. The warnings belong in the reply. @param given.warningsMost 0 if there is no reply. */
export function readRequest<S extends z.ZodObject>(
  schema: S,
  body: unknown,
  given: { warningsMost?: number } = {},
): Read<z.infer<S>> & { warnings: readonly string[] } {
  const { body: tidy, warnings } = tidied(schema, body, given.warningsMost);
  return { ...readAs(schema, tidy), warnings };
}

export function readAs<S extends z.ZodType>(schema: S, value: unknown, at: readonly string[] = []): Read<z.infer<S>> {
  const parsed = schema.safeParse(value, { error: errorMessageOf });
  if (parsed.success) return { value: parsed.data };
  return { refusal: refusalOf(parsed.error.issues[0], at) };
}

function refusalOf(issue: z.core.$ZodIssue | undefined, at: readonly string[]): Refusal {
  const deepest = issue === undefined ? undefined : mostSpecific(issue);
  const path = [...at, ...(deepest?.path ?? []).map(String)];
  if (deepest?.code === "unrecognized_keys") path.push(deepest.keys[0] ?? "");
  const field = path.map(shortened).join(".");
  const why = deepest?.message ?? "cannot be used";
  if (field === "")
    return refuse("invalid-request", `The request must be a JSON object with the right fields: it ${why}.`);
  return refuse("invalid-request", `${field}: ${why}.`, { field });
}

/** A field's name may be as long as a request. The refusal must fit into a reply, and into a header of it. */
function shortened(name: string): string {
  return name.length <= nameCharsMax ? name : `${name.slice(0, nameCharsMax)}…`;
}

/**
 * For a value that matches none of several forms: the error of the closest form. That is the form that matches further
 * into the value, or accepts its type.
 */
function mostSpecific(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  const alike = issue.errors.filter(([first]) => first?.path.length !== 0 || !isOfAnotherKind(first));
  const closest = alike.toSorted((a, b) => a.length - b.length)[0]?.[0];
  if (closest === undefined) return issue;
  const inner = mostSpecific(closest);
  return { ...inner, path: [...issue.path, ...inner.path] };
}

function isOfAnotherKind({ code }: z.core.$ZodIssue): boolean {
  return code === "invalid_type" || code === "invalid_value";
}
