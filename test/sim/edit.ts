// A deliberate change of a source: what is found in it, exactly once, and what is put in its place.

export interface Edit {
  file: string;
  find: string;
  put: string;
}

/** Of what decides. */
export function core(file: string, find: string, put: string): Edit {
  return { file: `state-machines/${file}`, find, put };
}
