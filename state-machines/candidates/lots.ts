// Lots: one for each proxy that can be leased. All are equally likely, exactly.
import type { Draw } from "../decide/chance.ts";
import type { Proxy } from "../fold/state.ts";
import type { WeightedSampler } from "../structures/weighted-sampler.ts";
import { freeCount, type Group, nthFree } from "./group.ts";

export type Lots = WeightedSampler<"samplePlace", Group>;

/** Undefined: no proxy has a lot. @param barred proxies that have a lot and must not be drawn. */
export function drawLot(lots: Lots, barred: ReadonlyMap<Group, ReadonlySet<Proxy>>, draw: () => Draw) {
  for (const [group, proxies] of barred) lots.set(group, freeCount(group) - proxies.size);
  const among = lots.lots;
  const lot = among === 0 ? 0 : draw().upTo(among - 1);
  const drawn = among === 0 ? undefined : { ...proxyOfLot(lots, lot, barred), ranked: { lot, among } };
  for (const group of barred.keys()) lots.set(group, freeCount(group));
  return drawn;
}

export function proxyOfLot(lots: Lots, lot: number, barred?: ReadonlyMap<Group, ReadonlySet<Proxy>>) {
  const { item: group, nth } = lots.at(lot);
  return { group, proxy: nthFree(group, nth, barred?.get(group) ?? new Set()) };
}
