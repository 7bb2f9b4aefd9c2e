// How deeply a JSON value is nested. It can be parsed at any depth, and neither be written again nor be handed to another
// thread: both take a stack as deep as it is.

/** A vendor's list or a policy has a handful. */
const levelsMax = 100;

export function isDeep(value: unknown, levels = levelsMax): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((each) => isDeep(each, levels - 1));
}
