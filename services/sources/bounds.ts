// Bounds of sources that are set by request. All are in one file, which is read and written as a whole with each
// change, so one administrator must neither make it long nor use up its places.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Source } from "../../protocol/source.ts";

/** As many as the file may have. */
const sourcesMax = 1000;
export const sourcesOfPoolMax = 100;
/** As JSON. All labels, a long URL and some headers have room. */
export const sourceCharsMax = 32 * 1024;

/** @param others the sources that stay beside it. @param isNew it replaces none. */
export function beyondBounds(source: Source, others: readonly Source[], isNew: boolean): Refusal | undefined {
  if (JSON.stringify(source).length > sourceCharsMax)
    return refuse("invalid-request", `from: the source may have at most ${sourceCharsMax} characters in all.`, {
      field: "from",
    });
  const ofPool = others.filter(({ pool }) => pool === source.pool).length;
  if (!isNew || (others.length < sourcesMax && ofPool < sourcesOfPoolMax)) return undefined;
  const most = ofPool < sourcesOfPoolMax ? `${sourcesMax} sources` : `${sourcesOfPoolMax} sources of a pool`;
  return refuse("invalid-request", `name: there may be at most ${most}. Remove one first.`, { field: "name" });
}
