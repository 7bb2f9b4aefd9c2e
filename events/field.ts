// Fields of facts, as readers of a ledger need them: the kind of value, whether it may be absent, its meaning. All of
// it comes from the schemas. Where a schema's form does not show the kind, `as` notes it.
import { z } from "zod";

/** The kind of a value. A list: one of these words. */
export type Kind =
  | "text"
  | "masked"
  | "instant"
  | "whole"
  | "int32"
  | "count"
  | "number"
  | "port"
  | "true"
  | "texts"
  | "labels"
  | "figures"
  | "document"
  | "limits"
  | "request"
  | readonly string[];

export interface Field {
  name: string;
  isRequired: boolean;
  kind: Kind;
  /** Its type as the docs show it. */
  type: string;
  description: string;
}

interface Note {
  kind?: Kind;
  type?: string;
}

const notes = z.registry<Note>();

/** Notes the kind of a schema whose form does not tell it, and the name of its type in the docs. */
export function as<Schema extends z.ZodType>(schema: Schema, kind: Kind, type?: string): Schema {
  notes.add(schema, type === undefined ? { kind } : { kind, type });
  return schema;
}

/** Epoch milliseconds. */
export const instant = as(z.int(), "instant");
/** The user whose request led to an administrative event. */
export const by = z.string().optional().describe("The user who caused it. Absent: no request of a user caused it.");
/** Left out, or true. */
export const flag = z.literal(true).optional();

/** A state that an event leads to. Readers see text, and check it against the chart. */
export function leadsTo<const State extends string>(...states: State[]): z.ZodEnum<{ [Each in State]: Each }> {
  return as(z.enum(states), "text");
}

/** @param schema of an event, or of a document in one. */
export function fieldsOf(schema: z.ZodObject): Field[] {
  return Object.entries(schema.shape).map(([name, each]) => {
    const outer = each as z.ZodType; // As all schemas are; zod's core types say less.
    const inner = outer instanceof z.ZodOptional ? (outer.unwrap() as z.ZodType) : outer; // Likewise.
    const isRequired = inner === outer;
    const note = notes.get(inner);
    const [kind, type] =
      note?.kind !== undefined && note.type !== undefined ? [note.kind, note.type] : formOf(inner, name);
    return {
      name,
      isRequired,
      kind: note?.kind ?? kind,
      type,
      description: outer.description ?? inner.description ?? "",
    };
  });
}

function formOf(schema: z.ZodType, name: string): [Kind, type: string] {
  if (schema instanceof z.ZodString) return ["text", "string"];
  if (schema instanceof z.ZodLiteral && schema.value === true) return ["true", "true"];
  if (schema instanceof z.ZodLiteral || schema instanceof z.ZodEnum) {
    const words = schema instanceof z.ZodEnum ? schema.options.map(String) : [...schema.values].map(String);
    return [words, words.map((word) => `"${word}"`).join(" | ")];
  }
  if (schema instanceof z.ZodNumber) {
    if (schema.format === "int32") return ["int32", "number"];
    if (schema.format !== "safeint") return ["number", "number"];
    return [schema.minValue === 1 ? "count" : "whole", "number"];
  }
  if (schema instanceof z.ZodArray) {
    const [, element] = formOf(schema.element as z.ZodType, name); // As above.
    return ["texts", element.includes("|") ? `(${element})[]` : `${element}[]`];
  }
  if (schema instanceof z.ZodRecord) return ["figures", "Record<string, number>"];
  throw new Error(`the field ${name} has a schema whose kind must be noted`);
}
