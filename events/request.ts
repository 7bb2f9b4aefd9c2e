// Reading a request: JSON, then the schema of its verb. What cannot be read is refused with the field at fault.
import type { z } from "zod";
import { type Refusal, refuse } from "./refusal.ts";

/** Larger bodies are `too-large`. Lists go in several requests. */
export const requestBytesMax = 512 * 1024;

export type Read<T> = { value: T } | { refusal: Refusal };

/** An empty body is `{}`. */
export function parseJson(text: string): Read<unknown> {
  if (text.trim() === "") return { value: {} };
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { refusal: notJson() };
  }
}

export function notJson(): Refusal {
  return refuse("invalid-request", "The body is not JSON; send one JSON object in UTF-8.");
}

export function readAs<S extends z.ZodType>(schema: S, value: unknown, at: readonly string[] = []): Read<z.infer<S>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { value: parsed.data };
  return { refusal: refusalOf(parsed.error.issues[0], at) };
}

function refusalOf(issue: z.core.$ZodIssue | undefined, at: readonly string[]): Refusal {
  const deepest = issue === undefined ? undefined : mostSpecific(issue);
  const path = [...at, ...(deepest?.path ?? []).map(String)];
  const field = deepest?.code === "unrecognized_keys" ? [...path, deepest.keys[0] ?? ""].join(".") : path.join(".");
  const why = deepest?.code === "unrecognized_keys" ? "is not a field known here" : (deepest?.message ?? "is wrong");
  if (field === "")
    return refuse("invalid-request", `The request must be a JSON object with the right fields: ${why}.`);
  return refuse("invalid-request", `${field}: ${why}.`, { field });
}

/**
 * Of a union's many complaints, the one that got furthest into the document says most; next, one of a value that is of
 * the right type. Where it is of none, all that might stand there are named.
 */
function mostSpecific(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  const all = issue.errors.flat().map(mostSpecific);
  const known = all.filter((each) => each.path.length > 0 || each.code !== "invalid_type");
  const best = known.toSorted((a, b) => b.path.length - a.path.length)[0];
  if (best !== undefined) return { ...best, path: [...issue.path, ...best.path] };
  const types = all.map((each) => (each.code === "invalid_type" ? (typeNames[each.expected] ?? each.expected) : ""));
  const names = [...new Set(types)];
  return names.length < 2
    ? issue
    : { ...issue, message: `must be ${names.slice(0, -1).join(", ")} or ${names.at(-1)}` };
}

const typeNames: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "a string",
  boolean: "true or false",
  array: "a list",
  object: "an object",
};
