// The register of an audit finds what a Map finds.
import { expect, test } from "vitest";
import { Register } from "../../services/audit/checker/register.ts";
import { seeded } from "../kit/seed.ts";

interface Thing {
  name: string | undefined;
}

/** `toBe`, of which hundreds of thousands take their time. */
function expectSame(one: unknown, other: unknown): void {
  if (!Object.is(one, other)) expect(one).toBe(other);
}

test("a register finds what a map of the same things does, also of those that lost their name", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seeded(seed);
    const register = new Register<Thing>((thing) => thing.name);
    const map = new Map<string, Thing>();
    const names = random.pick([30, 3000, 1_000_000]);
    const oldest: Thing[] = [];
    for (let step = 0; step < 20_000; step++) {
      const name = `l_${random.int(1, names)}`;
      const kind = random.int(1, 10);
      if (kind <= 5) {
        const thing = { name };
        expectSame(register.set(name, thing), map.get(name));
        map.set(name, thing);
        oldest.push(thing);
      } else if (kind <= 8) expectSame(register.get(name), map.get(name));
      else {
        const thing = oldest.shift();
        if (thing?.name === undefined) continue;
        const own = thing.name;
        const isListed = map.get(own) === thing;
        if (kind === 9) register.delete(own, thing);
        else thing.name = undefined;
        if (isListed) map.delete(own);
        expectSame(register.get(own), map.get(own));
      }
    }
    const listed = new Set(register.values());
    expectSame(listed.size, map.size);
    for (const thing of map.values()) expectSame(listed.has(thing), true);
  }
});
