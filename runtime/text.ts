// Text for people, as the command line and the audit print it.

/** Replaces control characters and marks that change the writing direction: names and labels are untrusted. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\uFFFD");
}

/** ISO 8601 in UTC. Beyond the range of Date, the number itself is more useful than an error. */
export function showInstant(at: number): string {
  return Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : String(at);
}

/** `3 proxies`, `1 proxy`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** The counts above zero: `rate 3, rest 2`. "" if there are none. */
export function nameCounts(counts: object): string {
  const named = Object.entries(counts).filter(([, count]) => Number(count) > 0);
  return named.map(([name, count]) => `${name} ${count}`).join(", ");
}

/** `3 success, 1 timeout`, or `none`. */
export function countNames(counts: Readonly<Record<string, number>>): string {
  const all = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  return all.length === 0 ? "none" : all.join(", ");
}

/** For a POSIX shell: unquoted if that is safe, else in single quotes. */
export function shellQuoted(value: string): string {
  return /^[\w.:/@%+,=-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
