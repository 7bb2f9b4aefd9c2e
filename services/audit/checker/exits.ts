// The exit at which a proxy counts, and the counts that it takes along when it moves to another exit.
import type { ExitModel, ProxyModel } from "./entities.ts";
import { joined, spentWindow } from "./filled.ts";
import type { Model } from "./model.ts";
import { lastClosedOf, quotaOf } from "./past.ts";

export function keyOf(model: Model, proxyId: string, exit: string): string {
  return model.policy?.limitBy === "proxy" ? proxyId : exit;
}

/**
 * Grants through an exit still count there. A proxy that was alone there, or with retired ones, also takes them along.
 */
export function moveTo(model: Model, proxy: ProxyModel, exit: ExitModel): void {
  const old = proxy.exit;
  for (const each of [old, exit]) model.forgetPast(each);
  old.members.splice(old.members.indexOf(proxy), 1);
  exit.members.push(proxy);
  proxy.exit = exit;
  if (old.members.some(({ state }) => state !== "retired")) return model.limitAnew(old);
  model.exits.delete(old.key);
  for (const each of old.members.splice(0)) {
    each.exit = model.exitFor(old.key);
    each.exit.members.push(each);
    model.limitAnew(each.exit);
  }
  // Whether a window counts as filled after it was emptied depends on the slots that are still remembered.
  const spent = spentWindow(model, old) ?? (old.filled ? undefined : old.filled);
  const past = [...old.past, { of: old, since: 0 }];
  for (const { of } of old.past) of.countedBy?.delete(old);
  old.past = [];
  old.countedBy = new Set();
  for (const each of [model.exitFor(old.key), exit]) {
    each.restUntil = Math.max(each.restUntil, old.restUntil);
    // A narrower window, or none, may have forgotten slots that count in the windows of the exit that it joins.
    each.floor = Math.max(each.floor, old.floor, model.at - model.keepMs(old));
    each.filled = joined(each.filled, spent);
    for (const { of, since } of past) {
      if (each.past.some((known) => known.of === of)) continue;
      each.past.push({ of, since });
      of.countedBy?.add(each);
    }
  }
}

/** Switches between limits by exit and by proxy. This is only allowed while no lease is open and no slot occupied. */
export function regroup(model: Model): void {
  const before = [...model.exits.values()];
  const sums = new Map(
    before.map((exit) => [exit, { usesSinceRest: quotaOf(exit), lastClosedAt: lastClosedOf(exit) }]),
  );
  model.exits.clear();
  for (const exit of before) {
    exit.past = [];
    if (exit.members.length > 0) continue;
    Object.assign(exit, sums.get(exit));
    model.exits.set(exit.key, exit);
  }
  for (const proxy of model.proxies.values()) {
    const old = proxy.exit;
    const { usesSinceRest, lastClosedAt } = sums.get(old) ?? old;
    const exit = model.exitFor(keyOf(model, proxy.id, proxy.exitName));
    exit.members.push(proxy);
    exit.usesSinceRest += usesSinceRest;
    exit.restUntil = Math.max(exit.restUntil, old.restUntil);
    exit.lastClosedAt = Math.max(exit.lastClosedAt, lastClosedAt);
    proxy.exit = exit;
  }
  for (const lease of model.leases.values()) lease.exit = lease.proxy.exit;
}
