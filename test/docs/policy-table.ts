// The policy's fields as in its schema: type, bounds, default, unit, and the page of the rule.
import { z } from "zod";
import { defaultPolicy, type Policy, policySchema } from "../../events/policy.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { code, showTable } from "./markdown.ts";

/** The parts of JSON Schema that the policy uses. */
interface Schema {
  type?: string;
  const?: string;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | false;
  anyOf?: Schema[];
  oneOf?: Schema[];
}

/** The pages of fields whose rule has another name. null: no page of docs/rules. */
const pages: Partial<Record<keyof Policy, string | null>> = {
  countFrom: "rate",
  marginMs: "rate",
  limitBy: "exits",
  strategy: "strategies",
  session: "sessions",
  holder: "holders",
  outcomes: "outcomes",
  classify: "outcomes",
  hosts: null, // It is not a rule.
  gateway: null, // Nor is this one.
  token: null, // It has a page of its own.
};

/** A rule's page has the rule's name. */
export function pageOf(field: keyof Policy): string | null {
  const page = pages[field];
  return page === undefined ? field : page;
}

/** For counts: the counted things, if the rule's name does not say. Durations and shares need no such word. */
const units: Record<string, string> = {
  "rate.limit": "uses",
  concurrency: "open leases",
  "usage.limit": "uses",
  "streak.limit": "failures",
  "streak.retireAfter": "rests",
  "score.min": "points",
  "score.max": "points",
  "lease.usesMax": "uses",
  "waiting.max": "requests",
  "session.max": "sessions",
  "holder.leasesMax": "open leases",
  "outcomes.*.score": "points",
};

interface Row {
  path: string;
  type: string;
  bounds: string;
  unit: string;
  standard: unknown;
}

export function policyTable(): string {
  const schema = z.toJSONSchema(policySchema) as Schema; // Ours has nothing that the shape above lacks: `rowsOf` throws.
  const rows = Object.entries(schema.properties ?? {}).flatMap(([field, each]) => {
    const page = pageOf(field as keyof Policy);
    // A document of its own, off by default. Its page lists its fields and their defaults.
    if (field === "token") return [["`token`", "object or `null`", "", "`null`", "", "[tokens](tokens-reference.md)"]];
    const own = rowsOf(each, field, field, defaultPolicy[field as keyof Policy]);
    return own.map((row, i) => [...cellsOf(row), i === 0 && page !== null ? `[${page}](rules/${page}.md)` : ""]);
  });
  return showTable(["field", "type", "bounds", "default", "unit", "rule"], rows);
}

function cellsOf({ path, type, bounds, unit, standard }: Row): string[] {
  return [code(path), type, bounds, standard === undefined ? "" : code(JSON.stringify(standard)), unit];
}

/** @param name the path without its `kind`; units are found by it. */
function rowsOf(schema: Schema, path: string, name: string, standard: unknown): Row[] {
  const { properties, additionalProperties } = schema;
  const kinds = schema.oneOf;
  if (kinds !== undefined) return kinds.flatMap((kind) => rowsOfKind(kind, path, standard));
  const choices = schema.anyOf?.filter((each) => each.type !== "null");
  if (choices !== undefined) {
    const [first, list] = choices;
    if (first === undefined || (list !== undefined && list.type !== "array")) throw new Error(`${path}: a new union`);
    const or = [
      ...(list === undefined ? [] : [`a list of ${list.minItems} to ${list.maxItems} of them`]),
      ...(schema.anyOf?.length === choices.length ? [] : ["`null`"]),
    ].join(" or ");
    if (first.properties === undefined) {
      return rowsOf(first, path, name, standard).map((row) => ({ ...row, type: `${row.type} or ${or}` }));
    }
    const whole = { path, type: `object or ${or}`, bounds: "", unit: "", standard: undefined };
    return [whole, ...rowsOf(first, path, name, standard)];
  }
  if (properties !== undefined) {
    return Object.entries(properties).flatMap(([field, each]) =>
      rowsOf(each, `${path}.${field}`, `${name}.${field}`, fieldOf(standard, field)),
    );
  }
  if (typeof additionalProperties === "object") {
    const row = rowsOf(additionalProperties, `${path}.*`, `${name}.*`, undefined);
    return row.map((each) => (each.path === `${path}.*` ? { ...each, standard: shortOf(standard) } : each));
  }
  return [leafOf(schema, path, name, standard)];
}

function rowsOfKind(kind: Schema, path: string, standard: unknown): Row[] {
  const word = kind.properties?.["kind"]?.const;
  const field = path as "backoff" | "strategy";
  const read = readPolicy({ [field]: { kind: word } });
  if (word === undefined || "refusal" in read) throw new Error(`${path}: a kind that cannot be chosen by its name`);
  const isDefault = fieldOf(standard, "kind") === word;
  const head: Row = {
    path: `${path}.kind`,
    type: code(`"${word}"`),
    bounds: "",
    unit: "",
    standard: isDefault ? word : undefined,
  };
  const fields = Object.entries(kind.properties ?? {}).filter(([name]) => name !== "kind");
  return [
    head,
    ...fields.flatMap(([name, each]) =>
      rowsOf(each, `${path}.${name}`, `${path}.${name}`, fieldOf(read.policy[field], name)).map((row) => ({
        ...row,
        type: `${row.type}, of ${code(word)}`,
      })),
    ),
  ];
}

function leafOf(schema: Schema, path: string, name: string, standard: unknown): Row {
  const words = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  if (words !== undefined) {
    const type = words.length > 4 ? "a class of outcome" : words.map((word) => code(`"${word}"`)).join(" or ");
    return { path, type, bounds: "", unit: "", standard };
  }
  if (schema.type === "boolean" || schema.type === "null") {
    return { path, type: schema.type === "null" ? "`null`" : "boolean", bounds: "", unit: "", standard };
  }
  if (schema.type === "string") return { path, type: "text", bounds: "", unit: "", standard };
  if (schema.type === "array" && schema.items !== undefined) {
    const { type, bounds } = leafOf(schema.items, path, name, undefined);
    return { path, type: `list of ${type}`, bounds, unit: "", standard };
  }
  if (schema.type !== "integer" && schema.type !== "number") throw new Error(`${path}: a type not known here`);
  const type = schema.type === "integer" ? "whole number" : "number";
  return { path, type, bounds: `${schema.minimum} … ${schema.maximum}`, unit: unitOf(path, name), standard };
}

function unitOf(path: string, name: string): string {
  if (/Ms(Max|By\.\*)?$/.test(path)) return "ms";
  if (path.endsWith("Share")) return "share";
  const unit = units[name] ?? /^([a-z]+)\.limit$/.exec(name)?.[1];
  if (unit === undefined) throw new Error(`${path} has no unit in test/docs/policy-table.ts`);
  return unit;
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[field] : undefined;
}

/** A long table is placed on the page of its rule. */
function shortOf(standard: unknown): unknown {
  return Object.keys(standard ?? {}).length > 4 ? undefined : standard;
}

/** The default of some fields, as a fragment of a policy. */
export function defaultsOf(fields: readonly string[]): string {
  const document = fields.map((field) => {
    if (!(field in defaultPolicy)) throw new Error(`the policy has no ${field}`);
    return `  "${field}": ${spaced(defaultPolicy[field as keyof Policy], 2)}`;
  });
  return ["```json", "{", document.join(",\n"), "}", "```"].join("\n");
}

/** JSON, on one line if it is short enough. */
function spaced(value: unknown, indent: number): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((each) => spaced(each, indent)).join(", ")}]`;
  const entries = Object.entries(value).map(([key, each]) => `"${key}": ${spaced(each, indent + 2)}`);
  const line = entries.length === 0 ? "{}" : `{ ${entries.join(", ")} }`;
  if (line.length <= 100) return line;
  const pad = " ".repeat(indent + 2);
  return `{\n${entries.map((entry) => pad + entry).join(",\n")}\n${" ".repeat(indent)}}`;
}
