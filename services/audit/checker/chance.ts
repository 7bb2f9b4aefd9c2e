// Repeats each random draw. A draw comes from the commit's recorded chance and the place of its event. This is a second
// implementation from the definition of the generator (sfc32, Chris Doty-Humphrey, PractRand): four words of state, the
// first three from the chance, the last a counter; twelve rounds before the first draw.

const rounds = 12;

/**
 * A whole number from 0 to most.
 * @param chance 32 hex digits.
 * @param place of the event in its commit, from 0.
 */
export function drawn(chance: string, place: number, most: number): number {
  const word = (nth: number): number => Number(`0x${chance.slice(8 * nth, 8 * nth + 8)}`) | 0;
  const state = new Int32Array([word(0), word(1), word(2) ^ place, word(3) | 1]);
  for (let i = 0; i < rounds; i++) next(state);
  const high = next(state) & 0x1f_ffff;
  return (high * 2 ** 32 + next(state)) % (most + 1);
}

function next(state: Int32Array): number {
  const [a, b, c, counter] = state as unknown as [number, number, number, number]; // Always four words.
  const sum = (a + b + counter) | 0;
  state[0] = b ^ (b >>> 9);
  state[1] = c + (c << 3);
  state[2] = ((c << 21) | (c >>> 11)) + sum;
  state[3] = counter + 1;
  return sum >>> 0;
}
