// Random numbers of the simulator. Each step of a run has its own generator, seeded by the run's seed and the step's
// number. Leaving out one step does not change the others, so that a finding can be shrunk.
import { type Seeded, seeded } from "../kit/seed.ts";

export function chanceOf(seed: number, what: string, n = 0): Seeded {
  let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b);
  for (const letter of what) mixed = Math.imul(mixed ^ letter.charCodeAt(0), 0x01000193);
  mixed = Math.imul(mixed ^ n, 0xc2b2ae35);
  return seeded(mixed ^ (mixed >>> 15));
}
