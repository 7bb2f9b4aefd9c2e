// What could be had at a moment, and why not: the pool as it was, what held each proxy back, who was refused, and who was served
// last before and first after.
import type { LeaseGranted, WishesRefused } from "../../../events/lease.ts";
import { Choice } from "../../../state-machines/choice.ts";
import { isResting } from "../../../state-machines/group.ts";
import type { PoolState } from "../../../state-machines/state.ts";
import { holding } from "./proxy-story.ts";
import { counted, instant, listed, told } from "./words.ts";

const proxiesTold = 20;

export interface Around {
  refused: { at: number; n: number; event: WishesRefused }[];
  before: { at: number; n: number; event: LeaseGranted } | undefined;
  after: { at: number; n: number; event: LeaseGranted } | undefined;
}

export function momentStory(state: PoolState, { refused, before, after }: Around): string[] {
  const counts = Object.entries(state.byState).filter(([, count]) => count > 0);
  const isOpen = state.opened ? (state.draining ? "closing" : "open") : "closed";
  const lines = [
    `At ${instant(state.at)}, after commit ${state.commits}, the pool was ${isOpen}: ${listed(counts.map(([name, count]) => `${count} ${name}`))}; ${counted(state.leases.size, "open lease")}.`,
  ];
  const demand = new Choice(state).demandOf({ minUses: 1 });
  if (demand !== undefined) lines.push(...offered(state, demand.leasable, demand.size));
  if (demand !== undefined && demand.leasable === 0 && demand.size > 0) {
    const from = demand.leasableAt(new Set());
    if (from !== Infinity)
      lines.push(
        `If nothing more had been reported or released, the first could have been leased from ${instant(from)} on.`,
      );
  }
  const proxies = [...state.proxies.values()].filter((proxy) => proxy.state !== "retired");
  const held = proxies.flatMap((proxy) => {
    const why = holding(state, proxy);
    return why.length === 0 ? [] : [`  ${proxy.id}: ${why.join("; ")}`];
  });
  lines.push(...held.slice(0, proxiesTold));
  if (held.length > proxiesTold) lines.push(`  … and ${held.length - proxiesTold} more (audit state --at … has all)`);
  lines.push(...refusals(refused));
  if (before !== undefined)
    lines.push(
      `The last lease before was ${before.event.leaseId} on ${before.event.proxyId}, at ${instant(before.at)} (commit ${before.n}).`,
    );
  if (after !== undefined)
    lines.push(
      `The next one was ${after.event.leaseId} on ${after.event.proxyId}, at ${instant(after.at)} (commit ${after.n}).`,
    );
  else lines.push("No lease was granted after it.");
  return lines;
}

function offered(state: PoolState, leasable: number, size: number): string[] {
  if (size === 0) return ["It had no proxies that could be leased, resting or not."];
  const resting = [...state.proxies.values()].filter(isResting);
  const reasons = new Map<string, number>();
  for (const { reasons: each } of resting)
    for (const reason of each) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const why = [...reasons].sort(([a], [b]) => (a < b ? -1 : 1)).map(([reason, count]) => `${reason} ${count}`);
  const rests = why.length === 0 ? "" : ` Of those that rested, for: ${why.join(", ")}.`;
  return [
    `A wish for one use, with no further terms, had ${leasable} of ${counted(size, "proxy", "proxies")} to be leased.${rests}`,
  ];
}

/** Aggregated in the ledger: up to a second after they were refused. */
function refusals(refused: Around["refused"]): string[] {
  if (refused.length === 0) return ["No wish is recorded as refused within a second of it."];
  return refused.map(({ at, n, event }) => {
    const by = Object.entries(event.limitedBy ?? {}).filter(([, count]) => count > 0);
    const held =
      by.length === 0 ? "" : `; of the last, held back: ${by.map(([rule, count]) => `${rule} ${count}`).join(", ")}`;
    return told(
      `Recorded at ${instant(at)} (commit ${n}): ${counted(event.count, "wish", "wishes")} refused, ${event.code}${held}.`,
    );
  });
}
