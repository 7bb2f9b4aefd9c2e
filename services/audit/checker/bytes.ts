// Judging the bytes rule: no lease of an exit whose reports of the window come to the limit. It keeps its own sums, beside
// the model, by the exits as the model has them: each exit that was has its reports, and an exit counts its own, those
// of the one that had its name before, and those of all that its proxies brought along.
import type { Event } from "../../../events/event.ts";
import type { ExitModel } from "./entities.ts";
import type { Model } from "./model.ts";

interface Sums {
  reports: { at: number; bytes: number }[];
  /** Of other exits that count here. */
  readonly others: Set<Sums>;
}

export class Bytes {
  readonly #model: Model;
  readonly #of = new WeakMap<ExitModel, Sums>();
  /** By name: the last exit that had it. */
  readonly #named = new Map<string, Sums>();
  /** The rule in force; a report before it began to hold counts for nothing. */
  #rule: { limit: number; windowMs: number } | null = null;

  constructor(model: Model) {
    this.#model = model;
  }

  /** After the event was judged and the model moved. */
  judge(event: Event): void {
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

  /** @param at not after the present. */
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
      const before = this.#named.get(exit.key);
      if (before !== undefined) this.#count(sums, before);
    }
    if (exit.countedBy === undefined) this.#named.set(exit.key, sums);
    for (const { of } of exit.past) this.#count(sums, this.#sumsOf(of));
    const from = this.#model.at - (this.#rule?.windowMs ?? 0);
    if (sums.reports.length > 0 && sums.reports[0]!.at <= from)
      sums.reports = sums.reports.filter(({ at }) => at > from);
    return sums;
  }

  #count(sums: Sums, other: Sums): void {
    for (const each of [other, ...other.others]) if (each !== sums) sums.others.add(each);
  }

  /** What has run out by the window as it was. */
  #forget(): void {
    for (const sums of new Set([...this.#named.values()].flatMap((each) => [each, ...each.others]))) {
      const from = this.#rule === null ? Infinity : this.#model.at - this.#rule.windowMs;
      sums.reports = sums.reports.filter(({ at }) => at > from);
    }
  }
}
