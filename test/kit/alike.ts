// Compares two values that must be the same, thousands of times.
import { expect } from "vitest";

/**
 * `toEqual`, but much faster if two plain documents are the same. In every other case `toEqual` decides and reports
 * why.
 */
export function expectAlike(one: unknown, other: unknown, message?: string): void {
  if (!same(one, other)) expect(one, message).toEqual(other);
}

/** A field that is undefined counts as absent. */
function same(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  if (Array.isArray(one))
    return Array.isArray(other) && one.length === other.length && one.every((each, i) => same(each, other[i]));
  if (!isPlain(one) || !isPlain(other)) return false;
  for (const name in one) if (!same(one[name], other[name])) return false;
  for (const name in other) if (one[name] === undefined && other[name] !== undefined) return false;
  return true;
}

function isPlain(thing: unknown): thing is Record<string, unknown> {
  return typeof thing === "object" && thing !== null && Object.getPrototypeOf(thing) === Object.prototype;
}
