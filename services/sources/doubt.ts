// Who is gone when a source names less than it did. A list that suddenly reads empty, or less than half, is more often a
// list that broke than a provider that died: nobody is taken for gone until it has said so twice, a minute apart.

export const doubtMs = 60_000;

export interface Judgement {
  gone: string[];
  /** Since when the source has been saying so. */
  doubtedSince?: number;
}

/** @param known what it named when it was last believed. @param at monotonic milliseconds. */
export function judgeVanished(
  known: ReadonlySet<string>,
  named: ReadonlySet<string>,
  { at, doubtedSince }: { at: number; doubtedSince: number | undefined },
): Judgement {
  const vanished = [...known].filter((id) => !named.has(id));
  if (vanished.length === 0) return { gone: [] };
  const isDoubtful = (known.size - vanished.length) * 2 < known.size;
  if (!isDoubtful) return { gone: vanished };
  const since = doubtedSince ?? at;
  return at - since >= doubtMs ? { gone: vanished } : { gone: [], doubtedSince: since };
}
