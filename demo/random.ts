// Repeatable randomness for the demo and the benchmarks.

export type Random = () => number;

/** Gives the same numbers in [0, 1), each of 32 random bits, for the same seed (mulberry32, by Tommy Ettinger). */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
