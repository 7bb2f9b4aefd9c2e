// Quotas of users: how much one user may hold or take. Each is a number in the users file.

/** Absent: no bound. */
export interface Quota {
  /** Leases that are open at the same time. */
  openLeases?: number | undefined;
  /** Leases granted within any 60 seconds. */
  leasesPerMinute?: number | undefined;
  /** Lease requests that wait at the same time, repeated ones included. */
  waitingRequests?: number | undefined;
  /** Open pools that the user has opened. */
  openPools?: number | undefined;
}
export type QuotaName = keyof Quota;

/** The things that each quota counts, in words. */
export const quotas = {
  openLeases: "open leases",
  leasesPerMinute: "leases per minute",
  waitingRequests: "waiting requests",
  openPools: "open pools",
} as const satisfies Record<QuotaName, string>;
export const quotaNames = Object.keys(quotas) as QuotaName[]; // Its own keys.

export const quotaMax = 1_000_000;

/** The sentence of a refusal. */
export function overQuota(user: string, name: QuotaName, most: number): string {
  return `${user} has reached the quota ${name}: at most ${most} ${quotas[name]}.`;
}
