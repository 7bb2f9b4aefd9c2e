// Error messages for the sender of a value: the required form, and the kind of value that was sent. Never the value
// itself, which may be a secret. The schema library's own messages address programmers, so none of them is shown.
import { z } from "zod";

/**
 * The message for a field. It follows the field's name and a colon. A schema's own message, if it has one, takes
 * precedence.
 */
export function errorMessageOf(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case "invalid_type": {
      const kind = issue.inst instanceof z.ZodNumberFormat ? kindOf("int") : kindOf(issue.expected);
      return issue.input === undefined
        ? `is missing; it must be ${kind}`
        : `must be ${kind}, and is ${kindIn(issue.input)}`;
    }
    case "too_small":
      return sizeOf(issue.origin, `at least ${issue.minimum}`);
    case "too_big":
      return sizeOf(issue.origin, `at most ${issue.maximum}`);
    case "invalid_value":
      return `${issue.input === undefined ? "is missing; it " : ""}must be ${oneOf(issue.values.map((each) => JSON.stringify(each)))}`;
    case "invalid_union":
      return unionOf(issue);
    case "invalid_key":
      return issue.issues[0]?.message ?? "is not a valid name";
    case "unrecognized_keys":
      return "is an unknown field";
    case "invalid_format":
      return "has the wrong format";
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    default:
      return "cannot be used";
  }
}

const kinds: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "a string",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "a list",
  null: "null",
};

function kindOf(expected: string): string {
  return kinds[expected] ?? "something else";
}

function kindIn(input: unknown): string {
  if (input === null) return "null";
  if (Array.isArray(input)) return "a list";
  if (typeof input === "number") return Number.isInteger(input) ? "a number" : "a number with a fraction";
  if (typeof input === "boolean") return String(input);
  return kindOf(typeof input);
}

function sizeOf(origin: string, bound: string): string {
  const isOne = bound.endsWith(" 1");
  if (origin === "string") return `must have ${bound} ${isOne ? "character" : "characters"}`;
  if (origin === "array") return `must have ${bound} ${isOne ? "entry" : "entries"}`;
  return `must be ${bound}`;
}

/**
 * For a value that matches none of several forms. If it partly matches one, that form's error is reported (see
 * request.ts).
 */
function unionOf(issue: z.core.$ZodRawIssue<z.core.$ZodIssueInvalidUnion>): string {
  // If a field tells the forms apart, the error is about that field.
  if (Array.isArray(issue.options)) return `must be ${oneOf(issue.options.map((each) => JSON.stringify(each)))}`;
  const forms = issue.errors.flatMap(([first]) => {
    if (first?.path.length !== 0) return [];
    if (first.code === "invalid_type") return [kindOf(first.expected)];
    return first.code === "invalid_value" ? first.values.map((each) => JSON.stringify(each)) : [];
  });
  const missing = issue.input === undefined ? "is missing; it " : "";
  if (forms.length === 0) return `${missing}matches none of its forms`;
  const is = issue.input === undefined ? "" : `, and is ${kindIn(issue.input)}`;
  return `${missing}must be ${oneOf([...new Set(forms)])}${is}`;
}

/** `a`, `a or b`, `one of a, b, c` */
function oneOf(choices: readonly string[]): string {
  return choices.length > 2 ? `one of ${choices.join(", ")}` : choices.join(" or ");
}
