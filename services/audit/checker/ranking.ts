// Checks the figures that are recorded with a choice: they must be the proxy's figures at that moment. Whether another
// proxy had better ones is not checked here.
import type { LeaseGranted } from "../../../events/lease.ts";
import { drawn } from "./chance.ts";
import type { ProxyModel } from "./entities.ts";
import type { Model } from "./model.ts";
import { leasesOf } from "./past.ts";

/** Called before the lease is counted. */
export function judgeRanking(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings } = model;
  if (event.strategy === "random" || event.strategy === "bandit") judgeDraw(model, event);
  const figures = figuresOf(model, event.strategy, proxy);
  for (const name in figures) {
    if (event.ranked[name] === figures[name]) continue;
    const said = event.ranked[name] ?? "left out";
    findings.add(
      "request",
      `${event.leaseId} was ranked by figures that ${proxy.id} did not have: ${name} was ${figures[name]}, not ${said}`,
    );
    return;
  }
}

/** For a `bandit` only the draw can be checked: its shares are floating-point numbers. */
function figuresOf(model: Model, strategy: string, proxy: ProxyModel): Record<string, number> | undefined {
  const { exit, lastUsedAt, granted, score, addedOrder, stackOrder } = proxy;
  switch (strategy) {
    case "best":
      return { granted, score, lastUsedAt };
    case "round-robin":
      return { lastUsedAt };
    case "lifo":
      return { order: stackOrder };
    case "drain":
      return { order: addedOrder };
    case "least-used": {
      const [first] = exit.limits.rates;
      if (first === undefined) return { usesInWindow: 0, lastUsedAt };
      // If proxies have windows of their own, none of them is the first.
      const isKnown = model.knowsAll(exit, first.windowMs) && exit.members.every((member) => member.own === undefined);
      return { ...(isKnown ? { usesInWindow: model.occupied(exit, first.windowMs) } : {}), lastUsedAt };
    }
    case "least-connections":
      return { openLeases: leasesOf(exit), openLeasesOwn: proxy.openLeases, lastUsedAt };
    case "time-based": {
      const { at, openedAt, policy } = model;
      const intervalMs = policy?.strategy.kind === "time-based" ? policy.strategy.intervalMs : 1;
      return { intervalAt: at - ((at - openedAt) % intervalMs), lastUsedAt };
    }
    default:
      return undefined;
  }
}

/**
 * A proxy that is named by a lease request or its session is not drawn. Neither is the proxy of a refresh of its own
 * token.
 */
function judgeDraw(model: Model, { leaseId, strategy, ranked, request }: LeaseGranted): void {
  const { findings, chance, place, policy } = model;
  const isDrawn = Object.keys(ranked).length > 0;
  if (!isDrawn) {
    const isBound = request.session !== undefined || request.proxyId !== undefined;
    const isRefresh = policy?.token != null && request.ttlMs === policy.token.deadlineMs;
    if (!isBound && !isRefresh) findings.add("chance", `${leaseId} was drawn by lot, and does not say how`);
    return;
  }
  if (model.isOther) return;
  if (chance === undefined)
    return findings.add("chance", `${leaseId} was drawn by chance, and the commit records none`);
  if (strategy !== "random") return;
  const { lot = -1, among = 0 } = ranked;
  const due = among > 0 && among <= model.proxies.size ? drawn(chance, place, among - 1) : -1;
  if (lot !== due)
    findings.add("chance", `${leaseId} was drawn as lot ${lot} of ${among}, and the commit's chance gives ${due}`);
}
