// Checks the bytes rule: no lease of an exit whose reports in the window reach the limit. It keeps its own sums,
// outside the model, by the exits of the model. Each past exit has its own reports. An exit counts its own reports,
// those of the exit that had its name before, and those of all exits that its proxies came from.
import type { Event } from "../../../events/event.ts";
import type { ExitModel } from "./entities.ts";
import { recordedWithinMs } from "./limits.ts";
import type { Model } from "./model.ts";

interface Sums {
  reports: { at: number; bytes: number }[];
  /** Sums of other exits that count here. */
  readonly others: Set<Sums>;
}

export class Bytes {
  readonly #model: Model;
  readonly #of = new WeakMap<ExitModel, Sums>();
  /** By name: the last exit that had it. */
  readonly #named = new Map<string, Sums>();
  /** The rule in force. A report from before it began does not count. */
  #rule: { limit: number; windowMs: number } | null = null;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Called after the event was checked and the model updated. */
  check(event: Event): void {
    const model = this.#model;
    switch (event.type) {
      case "PoolOpened":
      case "PolicyChanged":
        this.#forget();
        this.#rule = model.policy?.bytes ?? null;
        return;
      case "ProxyAdded":
      case "ProxyChanged": {
        const exit = this.#rule === null ? undefined : model.proxies.get(event.proxyId)?.exit;
        if (exit !== undefined) this.#sumsOf(exit);
        return;
      }
      case "UseReported": {
        const exit = this.#rule === null || event.bytes === undefined ? undefined : model.lease(event.leaseId)?.exit;
        if (exit !== undefined) this.#sumsOf(exit).reports.push({ at: model.at, bytes: event.bytes ?? 0 });
        return;
      }
      case "LeaseGranted": {
        const exit = this.#rule === null ? undefined : model.proxies.get(event.proxyId)?.exit;
        if (exit !== undefined && this.isHeld(exit))
          model.findings.add(
            "bytes",
            `${event.leaseId} is granted while its exit ${exit.key} is at its limit of bytes`,
          );
      }
    }
  }

  /** @param at not later than now. */
  isHeld(exit: ExitModel, at = this.#model.at): boolean {
    if (this.#rule === null) return false;
    const { limit, windowMs } = this.#rule;
    const sums = this.#sumsOf(exit);
    let count = 0;
    for (const { reports } of [sums, ...sums.others])
      for (const each of reports) if (each.at > at - windowMs) count += each.bytes;
    return count >= limit;
  }

  #sumsOf(exit: ExitModel): Sums {
    let sums = this.#of.get(exit);
    if (sums === undefined) {
      sums = { reports: [], others: new Set() };
      this.#of.set(exit, sums);
      // A past exit that is first read while the rule is on: another exit has its name by now.
      const before = exit.countedBy === undefined ? this.#named.get(exit.key) : undefined;
      if (before !== undefined) this.#count(sums, before);
    }
    if (exit.countedBy === undefined) this.#named.set(exit.key, sums);
    for (const { of } of exit.past) this.#count(sums, this.#sumsOf(of));
    // A refusal is checked as of when the request may have been refused.
    const from = this.#model.at - (this.#rule?.windowMs ?? 0) - recordedWithinMs;
    if (sums.reports.length > 0 && sums.reports[0]!.at <= from)
      sums.reports = sums.reports.filter(({ at }) => at > from);
    return sums;
  }

  #count(sums: Sums, other: Sums): void {
    for (const each of [other, ...other.others]) if (each !== sums) sums.others.add(each);
  }

  /** Removes reports that had run out under the old window. */
  #forget(): void {
    for (const sums of new Set([...this.#named.values()].flatMap((each) => [each, ...each.others]))) {
      const from = this.#rule === null ? Infinity : this.#model.at - this.#rule.windowMs;
      sums.reports = sums.reports.filter(({ at }) => at > from);
    }
  }
}
