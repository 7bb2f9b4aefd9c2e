// A deliberate fault: a change of sources. Each edit finds a text in a source, exactly once, and puts another in its place.
import type { Checker } from "./court.ts";

export interface Edit {
  file: string;
  find: string;
  put: string;
}

export interface Fault {
  /** What is broken by it, in a sentence. */
  what: string;
  edits: readonly Edit[];
  /** Whose promise it breaks: the first finding must be of one of them. */
  by: readonly Checker[];
  /** A seed that finds it, for the quick test; any test from seed 1 on finds it too, later. */
  quick: number;
}

/** Of what decides. */
export function core(file: string, find: string, put: string): Edit {
  return { file: `state-machines/${file}`, find, put };
}
