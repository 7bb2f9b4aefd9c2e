// For promises that name a time ("ends within two seconds"). A busy machine makes what is measured slower, and never quicker:
// so the quickest of a few tries says what the service is able to, and one that is slow by itself is slow each time.

const TRIES_MAX = 3;

/** @param measure does it once, and says how long it took, ms. Done again until that is less than `ms`, three times at most. */
export async function quickest(ms: number, measure: () => Promise<number>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < TRIES_MAX && least >= ms; tries++) least = Math.min(least, await measure());
  return least;
}
