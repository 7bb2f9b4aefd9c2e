// Who is gone when a source names less than it did. A list that suddenly reads empty, or less than half, is more often a
// list that broke than a provider that died: nobody is taken for gone until it has said so twice, a minute apart.

export const doubtMs = 60_000;

export interface Judgement {
  gone: readonly string[];
  /** Since when the source has been saying so. */
  doubtedSince?: number;
}

/**
 * @param vanished of the `known` that it named when it was last believed, or since, those that it names no longer.
 * @param unsure those of the known that it has named only since it is doubted: they prove nothing for the list that names them.
 * @param at monotonic milliseconds.
 */
export function judgeVanished(
  vanished: readonly string[],
  given: { known: number; unsure: ReadonlySet<string>; at: number; doubtedSince: number | undefined },
): Judgement {
  if (vanished.length === 0) return { gone: [] };
  const { unsure, at } = given;
  const believed = given.known - unsure.size;
  const lost = vanished.filter((id) => !unsure.has(id)).length;
  const isDoubtful = (believed - lost) * 2 < believed;
  if (!isDoubtful) return { gone: vanished };
  const doubtedSince = given.doubtedSince ?? at;
  return at - doubtedSince >= doubtMs ? { gone: vanished } : { gone: [], doubtedSince };
}
