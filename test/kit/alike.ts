// Two things that must be the same, compared thousands of times.
import { expect } from "vitest";

/** `toEqual`, in a fraction of its time where two plain documents are the same; in every other case it decides, and says why. */
export function expectAlike(one: unknown, other: unknown, message?: string): void {
  if (!same(one, other)) expect(one, message).toEqual(other);
}

/** A field that is undefined is one that is not there. */
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
