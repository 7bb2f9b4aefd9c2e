// The known name that a misspelt one was probably meant to be.

/** No known name is longer. */
const charsMax = 64;

/** The name that needs the fewest changes, if these are few for its length. */
export function nearestName(name: string, names: readonly string[]): string | undefined {
  const plain = (text: string): string => text.replace(/[_-]/g, "").toLowerCase();
  const given = plain(name.slice(0, charsMax));
  let best: { name: string; changes: number } | undefined;
  for (const each of names) {
    const known = plain(each);
    const most = Math.floor(each.length / 3);
    const isStart = given.length >= 3 && known.startsWith(given);
    // A request may have thousands of unknown fields, and comparing takes time.
    if (!isStart && Math.abs(given.length - known.length) > most) continue;
    const changes = isStart ? 0 : changesBetween(given, known);
    if (changes <= most && (best === undefined || changes < best.changes)) best = { name: each, changes };
  }
  return best?.name;
}

/** Levenshtein's distance. */
function changesBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(same, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
