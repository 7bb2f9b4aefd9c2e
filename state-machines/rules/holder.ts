// Holders: the owner of a lease, as the request names it. A policy may cap the open leases of each holder.
import type { Lease, PoolState } from "../fold/state.ts";

/** Counts a new open lease of this holder. */
export function hold(state: PoolState, holder: string, lease: Lease): void {
  const leases = state.holders.get(holder);
  if (leases === undefined) state.holders.set(holder, new Set([lease]));
  else leases.add(lease);
  state.queue?.holderMoved(holder);
}

export function letGo(state: PoolState, holder: string, lease: Lease): void {
  const leases = state.holders.get(holder);
  leases?.delete(lease);
  if (leases?.size === 0) state.holders.delete(holder);
  state.queue?.holderMoved(holder);
}

/** Has the holder as many open leases as it may? */
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
