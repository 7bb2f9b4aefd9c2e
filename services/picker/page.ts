// Pages of a list, by id.

/** A page ends before its answer grows beyond what any NATS server takes; one item has at most a tenth of it. */
const pageBytesMax = 400_000;

/** What `view` shows of the ids after `after`, in order; `next` where there is more. */
export function pageOf<T>(
  ids: readonly string[],
  range: { after: string | undefined; limit: number },
  view: (id: string) => T | undefined,
): { page: T[]; next: { next?: string } } {
  const page: T[] = [];
  let last = "";
  let bytes = 0;
  for (let i = range.after === undefined ? 0 : placeAfter(ids, range.after); i < ids.length; i++) {
    const id = ids[i]!; // Below the length.
    const shown = view(id);
    if (shown === undefined) continue;
    if (page.length === range.limit || bytes > pageBytesMax) return { page, next: { next: last } };
    bytes += Buffer.byteLength(JSON.stringify(shown));
    page.push(shown);
    last = id;
  }
  return { page, next: {} };
}

function placeAfter(ids: readonly string[], after: string): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle]! <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}
