// Who is gone when a source names less than it did. A list that suddenly reads empty, or less than half, is more often a
// list that broke than a provider that died: nobody is taken for gone until it has said so twice, a minute apart.

export const doubtMs = 60_000;

export interface Judgement {
  gone: string[];
  /** Since when the source has been saying so. */
  doubtedSince?: number;
}

/**
 * @param known what it named when it was last believed, and whom it has named since. @param unsure those of them that it has
 * named only since it is doubted: they prove nothing for the list that names them. @param at monotonic milliseconds.
 */
export function judgeVanished(
  known: ReadonlySet<string>,
  named: ReadonlySet<string>,
  { at, doubtedSince, unsure }: { at: number; doubtedSince: number | undefined; unsure: ReadonlySet<string> },
): Judgement {
  const vanished = [...known].filter((id) => !named.has(id));
  if (vanished.length === 0) return { gone: [] };
  const believed = known.size - unsure.size;
  const lost = vanished.filter((id) => !unsure.has(id)).length;
  const isDoubtful = (believed - lost) * 2 < believed;
  if (!isDoubtful) return { gone: vanished };
  const since = doubtedSince ?? at;
  return at - since >= doubtMs ? { gone: vanished } : { gone: [], doubtedSince: since };
}
