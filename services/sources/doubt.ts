// Decides which proxies are gone when a source names fewer than before. If a list suddenly reads empty, or less than
// half, the list is more likely broken than the provider dead. No proxy counts as gone until the list has said so
// twice, a minute apart.

export const doubtMs = 60_000;

/**
 * Returns the proxies that are gone, and the first time that the source said so if it is still doubted.
 * @param vanished ids from `known` that the source named when it was last believed, or since then, and no longer names.
 * @param unsure ids from `known` that the source has named only since it is doubted. They are no evidence for the list
 * that names them.
 * @param at monotonic milliseconds.
 */
export function goneOf(
  vanished: readonly string[],
  given: { known: number; unsure: ReadonlySet<string>; at: number; doubtedSince: number | undefined },
): { gone: readonly string[]; doubtedSince?: number } {
  if (vanished.length === 0) return { gone: [] };
  const { unsure, at } = given;
  const believed = given.known - unsure.size;
  const lost = vanished.filter((id) => !unsure.has(id)).length;
  const isDoubtful = (believed - lost) * 2 < believed;
  if (!isDoubtful) return { gone: vanished };
  const doubtedSince = given.doubtedSince ?? at;
  return at - doubtedSince >= doubtMs ? { gone: vanished } : { gone: [], doubtedSince };
}
