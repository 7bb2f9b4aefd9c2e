// A partial policy document, merged over the present one.

/** Each of these is one unit: a mixture of two would have another meaning. */
const replaced = [".token.source.value", ".token.source.life", ".token.source.headers"];

/** Merges objects by field. Lists and null replace. Another `kind` starts from that kind's defaults. */
export function merge(present: unknown, patch: unknown, defaults: unknown, path = ""): unknown {
  if (!isDocument(patch) || replaced.includes(path)) return patch;
  const base = [present, defaults].find((each) => isDocument(each) && sameKind(each, patch)) ?? {};
  const merged = new Map(Object.entries(base as Record<string, unknown>)); // A document either way.
  for (const [key, value] of Object.entries(patch)) {
    merged.set(key, merge(merged.get(key), value, isDocument(defaults) ? defaults[key] : undefined, `${path}.${key}`));
  }
  return Object.fromEntries(merged);
}

function sameKind(present: Record<string, unknown>, patch: Record<string, unknown>): boolean {
  return patch["kind"] === undefined || patch["kind"] === present["kind"];
}

function isDocument(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
