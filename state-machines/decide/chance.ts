// All randomness of a commit comes from its recorded `chance`: 128 random bits that the shell draws once. Each draw is
// keyed by the place of its event in the commit, so an auditor can repeat any draw alone.
//
// The generator is sfc32 (Chris Doty-Humphrey, PractRand). It uses 32-bit integers only, so every machine gets the
// same.

export type Draw = {
  /** A whole number from 0 to n, both inclusive. n < 2^52. */
  upTo(n: number): number;
  /** A number in [0, 1) with 53 random bits, for samples. Used in decisions, never in folds. */
  unit(): number;
};

/** @param chance 32 hex digits. @param place of the event in its commit, from 0. */
export function drawFor(chance: string, place: number): Draw {
  let a = Number.parseInt(chance.slice(0, 8), 16) | 0;
  let b = Number.parseInt(chance.slice(8, 16), 16) | 0;
  let c = (Number.parseInt(chance.slice(16, 24), 16) | 0) ^ place;
  let d = Number.parseInt(chance.slice(24, 32), 16) | 1;
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let round = 0; round < 12; round++) next();
  const bits53 = (): number => (next() & 0x1f_ffff) * 0x1_0000_0000 + next();
  return { upTo: (n) => bits53() % (n + 1), unit: () => bits53() / 0x20_0000_0000_0000 };
}
