// The fields that an event of each type must have, and their kinds, from the table of all events. So later checks may
// trust what they read. An unknown field may belong to a later version: it is reported, not checked.
import { type Event, eventSchemas } from "../../../events/event.ts";
import { fieldsOf, type Kind } from "../../../events/field.ts";
import { requestSchema } from "../../../events/lease.ts";
import { limitsSchema } from "../../../events/policy.ts";
import { maskedNamePattern } from "../../../events/proxy.ts";
import type { Findings } from "./finding.ts";

const isInt = Number.isSafeInteger;

/** `isHidden`: a wrong value is not shown, because it may be a secret. */
interface Check {
  must: string;
  is: (value: unknown) => boolean;
  isHidden?: true;
}

const kinds: Record<Extract<Kind, string>, Check> = {
  text: { must: "text", is: isText },
  masked: { must: "masked, as in ZYT…", is: (value) => isText(value) && maskedNamePattern.test(value), isHidden: true },
  instant: { must: "a whole number", is: isInt },
  whole: { must: "a whole number", is: isInt },
  int32: { must: "a whole number", is: isInt },
  count: { must: "a whole number of at least 1", is: (value) => isInt(value) && Number(value) > 0 },
  number: { must: "a number", is: Number.isFinite },
  port: { must: "a port (1 to 65535)", is: (value) => isInt(value) && Number(value) > 0 && Number(value) < 65_536 },
  true: { must: "true, or left out", is: (value) => value === true },
  texts: { must: "a list of texts", is: (value) => Array.isArray(value) && value.every(isText) },
  labels: { must: "a document of texts", is: (value) => isDocumentOf(value, isText) },
  figures: { must: "a document of whole numbers", is: (value) => isDocumentOf(value, isInt) },
  document: { must: "a document", is: isDocument },
  limits: { must: "limits", is: (value) => limitsSchema.safeParse(value).success },
  request: {
    must: "a lease request",
    is: (value) => isDocument(value) && (fits(requests, value) || !faultIn(requests, value)),
  },
};

interface Field extends Check {
  name: string;
  isRequired: boolean;
}

interface Shape {
  fields: readonly Field[];
  byName: ReadonlyMap<string, Field>;
}

const requests = shapeOf(requestSchema);
const shapes = new Map(Object.entries(eventSchemas).map(([type, schema]) => [type, shapeOf(schema)]));

/** The known types of events. */
export const knownTypes: readonly string[] = [...shapes.keys()];

/** Unknown fields that were already reported, so that each is reported once. */
export type Strangers = Set<string>;

/** May the event be checked? This does not decide about unknown types. */
export function isWhole(
  event: unknown,
  findings: Findings,
  given: { place: number; strangers: Strangers },
): event is Event {
  const nth = given.place + 1;
  if (!isDocument(event) || typeof event["type"] !== "string") {
    findings.add("field", `event ${nth} of the commit is not an object with a \`type\`: ${short(event)}`);
    return false;
  }
  const { type } = event;
  const shape = shapes.get(type);
  if (shape === undefined || fits(shape, event)) return true;
  const fault = faultIn(shape, event, (name) => tellStranger(findings, given.strangers, `${type}.${name}`));
  if (fault === undefined) return true;
  findings.add("field", `event ${nth} of the commit (${type}) cannot be checked: ${fault}`);
  return false;
}

function tellStranger(findings: Findings, strangers: Strangers, name: string): void {
  if (findings.silent || strangers.has(name) || strangers.size >= 1000) return;
  strangers.add(name);
  findings.notice("field", `the field ${name} is not known here: its value is not checked`);
}

/** Does it have all required fields, each of its kind, and no others? This fast path covers nearly all events. */
function fits({ fields }: Shape, value: Record<string, unknown>): boolean {
  let known = 0;
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i]!; // The index is below the length.
    const given = value[field.name];
    if (given === undefined) {
      if (field.isRequired) return false;
    } else if (field.is(given)) known++;
    else return false;
  }
  for (const _name in value) known--;
  return known === 0;
}

/** The first field that is missing or of another kind. */
function faultIn(
  { fields, byName }: Shape,
  value: Record<string, unknown>,
  onStranger?: (name: string) => void,
): string | undefined {
  for (const name in value) {
    const field = byName.get(name);
    if (field === undefined) onStranger?.(name);
    else if (!field.is(value[name]))
      return `its ${name} must be ${field.must}, and is ${field.isHidden === true ? "not" : short(value[name])}`;
  }
  const missing = fields.find(({ name, isRequired }) => isRequired && value[name] === undefined);
  return missing === undefined ? undefined : `its ${missing.name} is missing`;
}

function shapeOf(schema: Parameters<typeof fieldsOf>[0]): Shape {
  const fields = fieldsOf(schema).map(({ name, isRequired, kind }) => {
    if (name === "type") return { name, isRequired, ...kinds.text };
    if (typeof kind === "string") return { name, isRequired, ...kinds[kind] };
    const words = new Set<unknown>(kind);
    const must = `one of ${kind.join(", ")}`;
    return { name, isRequired, must, is: (value: unknown) => words.has(value) };
  });
  return { fields, byName: new Map(fields.map((field) => [field.name, field])) };
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isDocument(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDocumentOf(value: unknown, is: (value: unknown) => boolean): boolean {
  if (!isDocument(value)) return false;
  for (const name in value) if (!is(value[name])) return false;
  return true;
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
