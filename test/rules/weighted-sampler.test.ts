import { expect, test } from "vitest";
import { WeightedSampler } from "../../state-machines/structures/weighted-sampler.ts";
import { withSeed } from "../kit/seed.ts";

test("gives every item exactly as many lots as its weight, after any additions and removals", () =>
  withSeed((random) => {
    const sampler = new WeightedSampler<"place", { place: number }>("place");
    const items = Array.from({ length: 40 }, () => ({ place: -1 }));
    const weights = new Map<object, number>();
    for (let step = 0; step < 400; step++) {
      const item = random.pick(items);
      const weight = random.int(0, 4);
      if (random.chance(0.3)) sampler.delete(item);
      else sampler.set(item, weight);
      weights.set(item, item.place < 0 ? 0 : weight);
      const lots = new Map<object, Set<number>>();
      for (let lot = 0; lot < sampler.lots; lot++) {
        const { item: owner, nth } = sampler.at(lot);
        lots.set(owner, (lots.get(owner) ?? new Set()).add(nth));
      }
      for (const each of items) {
        expect([...(lots.get(each) ?? [])].sort()).toEqual(Array.from({ length: weights.get(each) ?? 0 }, (_, i) => i));
      }
    }
    sampler.clear();
    expect([sampler.lots, items.every((item) => item.place === -1)]).toEqual([0, true]);
  }));
