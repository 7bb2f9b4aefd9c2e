// The queue of what must have happened by a certain time.
import { expect, test } from "vitest";
import { Due } from "../../services/audit/checker/due.ts";
import { seeded } from "../kit/seed.ts";

test("what is due is taken in the order of its instants, however it came, and none is lost", () => {
  for (let seed = 1; seed <= 12; seed++) {
    const random = seeded(seed);
    const due = new Due<number>();
    const held: number[] = [];
    // Mostly in order, as the ends of leases; or in no order at all.
    const inOrder = random.pick([0, 0.5, 0.98, 1]);
    let at = 0;
    for (let step = 0; step < 6000; step++) {
      expect(due.first).toBe(held.length === 0 ? Infinity : Math.min(...held));
      if (held.length > 0 && random.chance(held.length / 80)) {
        const first = Math.min(...held);
        expect(due.take()).toBe(first);
        held.splice(held.indexOf(first), 1);
        continue;
      }
      at += random.int(0, 3);
      const instant = random.chance(inOrder) ? at : random.int(0, 2 * at);
      due.add(instant, instant);
      held.push(instant);
    }
  }
});
