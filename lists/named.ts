// Named fields: an object of JSON, or a row under its header. Providers use different names, so names are compared
// without case, "_", "-", "." and spaces ("proxy_address" is "Proxy Address").

/** By names in the form of `fieldName`. */
export type Fields = ReadonlyMap<string, unknown>;

/** Names under which vendors nest an entry's fields one level deeper. As a text: `user:password`. */
export const credentialsNames = ["auth", "credentials", "authentication"];
export const nestNames = [...credentialsNames, "connection", "proxy", "server", "address", "endpoint"];

/** The same names occur in every entry. */
const shortNames = new Map<string, string>();
const shortNamesMax = 1000;
const shortCharsMax = 64;

/** The canonical name of an object's field, or of a header's column. Empty for a name without letters and digits. */
export function fieldName(name: string): string {
  let short = shortNames.get(name);
  if (short === undefined) {
    short = name.toLowerCase().replace(/[^a-z0-9]/g, "");
    if (shortNames.size < shortNamesMax && name.length < shortCharsMax) shortNames.set(name, short);
  }
  return short;
}

/**
 * If two names are the same, the first with a value counts. Nested fields are flattened. Outer fields take precedence.
 */
export function fieldsOf(entries: readonly (readonly [name: string, value: unknown])[]): Fields {
  const fields = new Map<string, unknown>();
  const put = ([name, value]: readonly [string, unknown]): void => {
    const key = fieldName(name);
    if (isEmpty(fields.get(key))) fields.set(key, value);
    isNested ||= typeof value === "object";
  };
  let isNested = false;
  entries.forEach(put);
  for (const name of isNested ? nestNames : []) {
    const nested = fields.get(name);
    if (!isObject(nested)) continue;
    fields.delete(name);
    Object.entries(nested).forEach(put);
  }
  return fields;
}

/** `null` means the same as an absent field. This also holds for a label. */
export function withoutNulls(entry: Record<string, unknown>): Record<string, unknown> {
  const given = Object.entries(entry).filter(([, value]) => value !== null);
  const cleaned = given.map(([name, value]) => [
    name,
    /labels$/i.test(name) && isObject(value) ? withoutNulls(value) : value,
  ]);
  return Object.fromEntries(cleaned);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Parsing a text that is not JSON costs ten times as much as this check. */
export function mayBeJsonObject(text: string): boolean {
  return /^\s*\{\s*("([^"\\]|\\.)*"\s*:.*)?\}\s*$/s.test(text);
}

export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "string" && value.trim() === "");
}

export function hasOnly(fields: Fields, names: ReadonlySet<string>): boolean {
  for (const name of fields.keys()) if (!names.has(name)) return false;
  return true;
}

export function hasAny(fields: Fields, names: ReadonlySet<string>): boolean {
  for (const name of fields.keys()) if (names.has(name)) return true;
  return false;
}
