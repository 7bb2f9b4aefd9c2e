/** The compiler proves that every case is covered: a missing case is a type error. */
export function unreachable(tag: never): never {
  throw new Error(`this case is not covered: ${JSON.stringify(tag)}`);
}
