// How deeply a JSON value is nested. A value of any depth can be parsed. But writing it, or passing it to another
// thread, takes a stack as deep as the value.

/** A vendor's list or a policy has a handful. */
const levelsMax = 100;

export function isDeep(value: unknown, levels = levelsMax): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((each) => isDeep(each, levels - 1));
}
