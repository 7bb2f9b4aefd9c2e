// Reading bodies, for the routes and for the thread that reads long bodies.

/** A vendor's list or a policy has a handful. */
const levelsMax = 100;

/**
 * How deeply a JSON value is nested. A value of any depth can be parsed. But writing it, or passing it to another
 * thread, takes a stack as deep as the value.
 */
export function isDeep(value: unknown, levels = levelsMax): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((each) => isDeep(each, levels - 1));
}

/** UTF-8, without the byte order mark that some editors add. */
export function textOf({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength)
    .toString("utf8")
    .replace(/^\uFEFF/, "");
}

/** The outcomes in a body: one, an array, or `remuda.report`'s. Undefined if the picker must check the object. */
export function outcomesIn(body: unknown): unknown[] | undefined {
  const value = body ?? {};
  if (Array.isArray(value)) return value;
  if (typeof value !== "object" || !("outcomes" in value)) return [value];
  return Array.isArray(value.outcomes) ? value.outcomes : undefined;
}
