/** The compiler proves that every case is covered: what is left has no type. */
export function unreachable(tag: never): never {
  throw new Error(`this case is not covered: ${JSON.stringify(tag)}`);
}
