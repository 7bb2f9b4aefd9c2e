// Reproducible randomness for tests. Everything random in a test comes from one seed, and a failing test prints it. Set
// REMUDA_TEST_SEED to run again with the same seed.

const SEED_VARIABLE = "REMUDA_TEST_SEED";

export type Seeded = {
  readonly seed: number;
  /** A number in [0, 1), with 32 random bits. */
  next(): number;
  /** A whole number, `lo` and `hi` included. */
  int(lo: number, hi: number): number;
  pick<T>(from: readonly T[]): T;
  /** True with probability `p`: never for 0, always for 1. */
  chance(p: number): boolean;
};

/** A generator that gives the same draws for the same seed (mulberry32, by Tommy Ettinger). Not for secrets. */
export function seeded(seed: number): Seeded {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const int = (lo: number, hi: number): number => {
    if (!(Number.isSafeInteger(lo) && Number.isSafeInteger(hi) && lo <= hi)) throw new RangeError(`int(${lo}, ${hi})`);
    return lo + Math.floor(next() * (hi - lo + 1));
  };
  return {
    seed,
    next,
    int,
    pick: (from) => {
      if (from.length === 0) throw new RangeError("pick from an empty list");
      return from[int(0, from.length - 1)]!; // the index is within the list, which is not empty
    },
    chance: (p) => next() < p,
  };
}

/**
 * Runs `test` with a generator of `seed`; without one, of REMUDA_TEST_SEED, and without that, of a fresh seed. When the
 * test throws, prints the seed and how to run it again, and passes the error on.
 */
export async function withSeed<T>(
  test: (random: Seeded) => T | Promise<T>,
  { seed = seedFromOutside(), print = console.error }: { seed?: number; print?: (line: string) => void } = {},
): Promise<T> {
  try {
    return await test(seeded(seed));
  } catch (error) {
    print(`failed with seed ${seed}; ${SEED_VARIABLE}=${seed} runs it again`);
    throw error;
  }
}

function seedFromOutside(): number {
  const given = process.env[SEED_VARIABLE];
  if (given === undefined || given === "") return Math.floor(Math.random() * 2 ** 32);
  const seed = Number(given);
  if (!Number.isSafeInteger(seed)) throw new RangeError(`${SEED_VARIABLE}="${given}" is not a whole number`);
  return seed;
}
