// A planted fault: a list of text edits of sources. The text of an edit must occur exactly once in its source.
import type { Checker } from "./court.ts";

export interface Edit {
  file: string;
  find: string;
  put: string;
}

export interface Fault {
  /** Its effect, in one sentence. */
  what: string;
  edits: readonly Edit[];
  /** The first finding must come from one of these checkers, or from the audit. */
  by?: readonly Checker[];
  /** The quick test begins at this seed, which finds the fault. A search from seed 1 takes longer. */
  quick: number;
}

/** An edit in the pure core. */
export function core(file: string, find: string, put: string): Edit {
  return { file: `state-machines/${file}`, find, put };
}
