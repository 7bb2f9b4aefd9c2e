// What a body of outcomes holds: one, an array, or what `remuda.report` takes.

/** Undefined: an object that the picker is to judge. */
export function outcomesIn(body: unknown): unknown[] | undefined {
  const value = body ?? {};
  if (Array.isArray(value)) return value;
  if (typeof value !== "object" || !("outcomes" in value)) return [value];
  return Array.isArray(value.outcomes) ? value.outcomes : undefined;
}
