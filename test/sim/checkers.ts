// Checkers that know only the replies and what the simulated target saw. They share no code with the decisions.
import { maxInAnyWindow } from "../kit/target.ts";

export interface SimPolicy {
  rate: { limit: number; windowMs: number }[];
  concurrency: number | null;
  usage: { limit: number; restMs: number } | null;
  backoffBaseMs: number;
  graceMs: number;
  limitBy: "exit" | "proxy";
}

export interface Held {
  leaseId: string;
  key: string;
  proxyId: string;
  epoch: number;
  uses: number;
  grantedAt: number;
  /** By the worker's clock: from the reply until it closed the lease itself, or the end it was told. */
  from: number;
  until: number;
  /** Uses that the worker says it made, where it gave the rest back. */
  used: number;
}

export class Checkers {
  readonly arrivals = new Map<string, number[]>();
  readonly held: Held[] = [];
  /** Failures sent, whatever way; Infinity: no reply has confirmed it. */
  readonly failures: { lease: Held; sentAt: number; confirmedAt: number }[] = [];
  readonly #policy: SimPolicy;

  constructor(policy: SimPolicy) {
    this.#policy = policy;
  }

  arrived(key: string, at: number): void {
    const instants = this.arrivals.get(key);
    if (instants === undefined) this.arrivals.set(key, [at]);
    else instants.push(at);
  }

  /** Sentences about what was broken; empty: nothing. */
  findings(): string[] {
    return [...this.#rates(), ...this.#concurrency(), ...this.#usage(), ...this.#rests()];
  }

  /** Exits that reached a limit of the rate in some window: without any, the checks have nothing to bite on. */
  atLimit(): number {
    return [...this.arrivals.values()].filter((instants) =>
      this.#policy.rate.some(({ limit, windowMs }) => maxInAnyWindow(instants, windowMs) === limit),
    ).length;
  }

  #rates(): string[] {
    const findings: string[] = [];
    for (const [key, instants] of this.arrivals) {
      instants.sort((a, b) => a - b);
      for (const { limit, windowMs } of this.#policy.rate) {
        const most = maxInAnyWindow(instants, windowMs);
        if (most > limit)
          findings.push(`rate: the target saw ${most} requests of ${key} in ${windowMs} ms (limit ${limit})`);
      }
    }
    return findings;
  }

  #concurrency(): string[] {
    const { concurrency } = this.#policy;
    if (concurrency === null) return [];
    const findings: string[] = [];
    for (const [key, held] of byKey(this.held)) {
      const edges = held.flatMap((lease) => [
        { at: lease.from, change: 1 },
        { at: lease.until, change: -1 },
      ]);
      edges.sort((a, b) => a.at - b.at || a.change - b.change);
      let open = 0;
      for (const { at, change } of edges) {
        open += change;
        if (open > concurrency) {
          findings.push(`concurrency: ${open} leases of ${key} are open at ${at} (limit ${concurrency})`);
          break;
        }
      }
    }
    return findings;
  }

  /** Between two pauses of the rest's length, no more uses than a stint allows. */
  #usage(): string[] {
    const { usage } = this.#policy;
    if (usage === null) return [];
    const findings: string[] = [];
    for (const [key, held] of byKey(this.held)) {
      held.sort((a, b) => a.grantedAt - b.grantedAt);
      let count = 0;
      let last = Number.NEGATIVE_INFINITY;
      for (const lease of held) {
        if (lease.grantedAt - last >= usage.restMs) count = 0;
        count += lease.used;
        last = lease.grantedAt;
        if (count > usage.limit) {
          findings.push(
            `usage: ${count} uses of ${key} by ${lease.grantedAt} without a rest of ${usage.restMs} ms (limit ${usage.limit})`,
          );
          break;
        }
      }
    }
    return findings;
  }

  /** Once a failure is confirmed, the next lease is of a later epoch, and the first failure of an epoch costs its rest. */
  #rests(): string[] {
    const findings: string[] = [];
    const first = new Map<string, { sentAt: number; confirmedAt: number }>();
    for (const { lease, sentAt, confirmedAt } of this.failures) {
      const epoch = `${lease.proxyId} ${lease.epoch}`;
      const known = first.get(epoch);
      first.set(epoch, {
        sentAt: Math.min(sentAt, known?.sentAt ?? sentAt),
        confirmedAt: Math.min(confirmedAt, known?.confirmedAt ?? confirmedAt),
      });
    }
    for (const lease of this.held) {
      const failed = first.get(`${lease.proxyId} ${lease.epoch}`);
      if (failed !== undefined && lease.grantedAt > failed.confirmedAt) {
        findings.push(
          `rest: ${lease.leaseId} of ${lease.proxyId} is granted at ${lease.grantedAt}, after a failure of the same epoch confirmed at ${failed.confirmedAt}`,
        );
      }
      // A usage rest may have ended the epoch as well, and may be shorter.
      const before = this.#policy.usage === null ? first.get(`${lease.proxyId} ${lease.epoch - 1}`) : undefined;
      if (before !== undefined && lease.grantedAt < before.sentAt + 2 * this.#policy.backoffBaseMs) {
        findings.push(
          `rest: ${lease.leaseId} of ${lease.proxyId} is granted at ${lease.grantedAt}, within the rest after a failure at ${before.sentAt}`,
        );
      }
    }
    return findings;
  }
}

function byKey(held: readonly Held[]): Map<string, Held[]> {
  const grouped = new Map<string, Held[]>();
  for (const lease of held) grouped.set(lease.key, [...(grouped.get(lease.key) ?? []), lease]);
  return grouped;
}
