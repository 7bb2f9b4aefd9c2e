/** JSON with the fields of each object in alphabetical order. Equal documents have equal texts. */
export function canonical(document: unknown): string {
  return JSON.stringify(document, (_key, each: unknown) =>
    typeof each === "object" && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  );
}
