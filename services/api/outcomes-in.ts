// The outcomes in a body: one, an array, or the body of `remuda.report`.

/** Undefined if it is an object that the picker must check. */
export function outcomesIn(body: unknown): unknown[] | undefined {
  const value = body ?? {};
  if (Array.isArray(value)) return value;
  if (typeof value !== "object" || !("outcomes" in value)) return [value];
  return Array.isArray(value.outcomes) ? value.outcomes : undefined;
}
