// The queue of events that must have happened by a certain time.
import { expect, test } from "vitest";
import { Due } from "../../services/audit/checker/due.ts";
import { seeded } from "../kit/seed.ts";

test("takes entries in the order of their instants, in whatever order they came, and loses none", () => {
  for (let seed = 1; seed <= 12; seed++) {
    const random = seeded(seed);
    const due = new Due<number>();
    const held: number[] = [];
    // Mostly in order, like the ends of leases; or in no order at all.
    const inOrder = random.pick([0, 0.5, 0.98, 1]);
    let at = 0;
    for (let step = 0; step < 6000; step++) {
      const earliest = held.length === 0 ? Infinity : Math.min(...held);
      if (due.first !== earliest) expect(due.first).toBe(earliest);
      if (held.length > 0 && random.chance(held.length / 80)) {
        const taken = due.take();
        if (taken !== earliest) expect(taken).toBe(earliest);
        held.splice(held.indexOf(earliest), 1);
        continue;
      }
      at += random.int(0, 3);
      const instant = random.chance(inOrder) ? at : random.int(0, 2 * at);
      due.add(instant, instant);
      held.push(instant);
    }
  }
});
