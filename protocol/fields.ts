// The fields of a request before its schema reads them. Clients in other languages write `null` for an absent value,
// and fractions for amounts. A field that is not known here is ignored, and the reply names it.
import { z } from "zod";
import { nearestName } from "./nearest-name.ts";

/** Durations and counts: a value with a fraction is rounded up. Ordinals and codes are not rounded. */
const amounts = z.registry<Record<never, never>>();

/** A duration or a count in a request. */
export function amount(schema: z.ZodNumber | z.ZodNumberFormat): typeof schema {
  amounts.add(schema, {});
  return schema;
}

export const warningsMax = 10;
const nameCharsMax = 64;

/** How a field is read: whether its schema accepts null, and the fields inside it. */
interface Field {
  keepsNull: boolean;
  isAmount: boolean;
  /** Names from outside, such as labels. */
  isRecord: boolean;
  inner: ((value: Record<string, unknown>) => Fields | undefined) | undefined;
}
interface Warned {
  path: string;
  warnings: string[];
  most: number;
}
type Fields = ReadonlyMap<string, Field>;

const plans = new WeakMap<z.ZodObject, Fields>();

/**
 * The body itself is not changed.
 * @param most how many warnings are wanted. Each takes time, and a request may have thousands of unknown fields.
 * @returns the body for the schema, and a sentence for each unknown field.
 */
export function tidied(
  schema: z.ZodObject,
  body: unknown,
  most = warningsMax,
): { body: unknown; warnings: readonly string[] } {
  const to: Warned = { path: "", warnings: [], most };
  return { body: isObject(body) ? withFields(fieldsOf(schema), body, to) : body, warnings: to.warnings };
}

/** The reply with the warnings, after any that it has already. */
export function withWarnings(reply: object, warnings: readonly string[]): object {
  if (warnings.length === 0) return reply;
  const own = "warnings" in reply && Array.isArray(reply.warnings) ? reply.warnings : [];
  return { ...reply, warnings: [...own, ...warnings] };
}

function withFields(fields: Fields, body: Record<string, unknown>, to: Warned): object {
  let tidy = body;
  const set = (name: string, value: unknown): void => {
    if (tidy === body) tidy = { ...body };
    if (value === undefined) delete tidy[name];
    else tidy[name] = value;
  };
  for (const [name, value] of Object.entries(body)) {
    const field = fields.get(name);
    if (field === undefined) {
      if (to.warnings.length < to.most) to.warnings.push(unknownField(to.path, name, fields));
    } else if (value === null) {
      if (!field.keepsNull) set(name, undefined);
    } else if (field.isAmount) {
      if (typeof value === "number" && !Number.isInteger(value)) set(name, Math.ceil(value));
    } else if (isObject(value)) {
      const inside = field.isRecord ? withoutNulls(value) : value;
      const known = field.inner?.(value);
      const inner = known && withFields(known, inside, { ...to, path: `${to.path}${name}.` });
      if ((inner ?? inside) !== value) set(name, inner ?? inside);
    }
  }
  return tidy;
}

function withoutNulls(record: Record<string, unknown>): Record<string, unknown> {
  if (!Object.values(record).includes(null)) return record;
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
}

function fieldsOf(schema: z.ZodObject): Fields {
  const made =
    plans.get(schema) ?? new Map(Object.entries(schema.shape).map(([name, field]) => [name, fieldOf(field)]));
  plans.set(schema, made);
  return made;
}

function fieldOf(schema: z.core.$ZodType): Field {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodNullable)
    inner = inner.unwrap();
  return {
    keepsNull: z.safeParse(schema, null).success,
    isAmount: amounts.has(inner),
    isRecord: inner instanceof z.ZodPipe || inner instanceof z.ZodRecord,
    inner: innerOf(inner),
  };
}

/** If there are several shapes, a field of the value says which one it has. */
function innerOf(schema: z.core.$ZodType): Field["inner"] {
  if (schema instanceof z.ZodObject) {
    const fields = fieldsOf(schema);
    return () => fields;
  }
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return undefined;
  const { discriminator } = schema.def;
  const shapes = schema.options.filter((option) => option instanceof z.ZodObject);
  return (value) => {
    const shape = shapes.find(({ shape }) => z.safeParse(shape[discriminator], value[discriminator]).success);
    return shape && fieldsOf(shape);
  };
}

function unknownField(path: string, name: string, fields: Fields): string {
  const shown = `${path}${name.length <= nameCharsMax ? name : `${name.slice(0, nameCharsMax)}…`}`;
  const nearest = nearestName(name, [...fields.keys()]);
  const hint = nearest === undefined ? "" : ` Did you mean ${path}${nearest}?`;
  return `${shown}: not a field of this request, and ignored.${hint}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
