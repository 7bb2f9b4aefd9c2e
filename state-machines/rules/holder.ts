// Holders: the owners of leases, as requests name them. A policy may cap the open leases of each holder.
import type { Lease, PoolState } from "../fold/state.ts";
import { addTo, deleteFrom } from "../structures/multimap.ts";

/** Counts a new open lease of this holder. */
export function hold(state: PoolState, holder: string, lease: Lease): void {
  addTo(state.holders, holder, lease);
  state.queue?.holderChanged(holder);
}

export function letGo(state: PoolState, holder: string, lease: Lease): void {
  deleteFrom(state.holders, holder, lease);
  state.queue?.holderChanged(holder);
}

/** Whether the holder has as many open leases as it may. */
export function isFull(state: PoolState, holder: string | undefined): boolean {
  const { leasesMax } = state.rules.policy.holder;
  if (leasesMax === null || holder === undefined) return false;
  return (state.holders.get(holder)?.size ?? 0) >= leasesMax;
}

/** When the holder may have another lease if none is released: when enough of its leases have expired. */
export function holderFreeAt(state: PoolState, holder: string | undefined): number {
  const { leasesMax } = state.rules.policy.holder;
  if (leasesMax === null || holder === undefined) return state.at;
  const ends = [...(state.holders.get(holder) ?? [])].map((lease) => lease.expiresAt).sort((a, b) => a - b);
  return ends[ends.length - leasesMax] ?? state.at;
}
