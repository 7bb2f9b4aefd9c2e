// Checks a choice: the recorded figures must be the proxy's figures at that moment, and no other proxy that could have
// been leased may come before it by the strategy.
import type { LeaseGranted, RecordedRequest } from "../../../events/lease.ts";
import type { Brake } from "./brakes.ts";
import { drawn } from "./chance.ts";
import { type ExitModel, isResting, type ProxyModel } from "./entities.ts";
import { spentWindow } from "./filled.ts";
import type { Model } from "./model.ts";
import { leasesOf } from "./past.ts";
import { isFree } from "./refusals.ts";
import { answers, boundProxy, siblingsOf } from "./requests.ts";
import { isGood, tokenFor } from "./tokens.ts";

/**
 * In a pool of at most this many proxies, all are compared with each granted one. In a larger pool only one is, in
 * turn.
 */
const comparedMax = 16;

/** Called before the lease is counted. */
export function checkRanking(model: Model, event: LeaseGranted, proxy: ProxyModel, brakes: readonly Brake[]): void {
  const { findings } = model;
  checkFirst(model, event, proxy, brakes);
  if (event.strategy === "random" || event.strategy === "bandit") checkDraw(model, event);
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

function checkFirst(model: Model, event: LeaseGranted, proxy: ProxyModel, brakes: readonly Brake[]): void {
  const { leaseId, request } = event;
  const first = orderOf(model, proxy);
  if (first === undefined || model.pinned.has(leaseId) || isNamed(model, request)) return;
  const since = model.at;
  const uses = request.minUses ?? 1;
  const taken = siblingsOf(model, event).map(({ exit }) => exit);
  for (const other of model.someProxies(model.proxies.size > comparedMax ? 1 : comparedMax)) {
    if (other === proxy || other.state === "retired" || isResting(other)) continue;
    if (taken.includes(other.exit) || !isBefore(orderOf(model, other), first)) continue;
    if (!answers(request, other) || !isFree(model, other, { uses, since })) continue;
    const token = request.token === true ? tokenFor(model, other) : undefined;
    if (request.token === true && (token === undefined || !isGood(model, token))) continue;
    if (brakes.some((brake) => brake.isHeld(other.exit, since))) continue;
    return model.findings.add(
      "request",
      `${leaseId} is of ${proxy.id}, and ${other.id} comes before it by the strategy`,
    );
  }
}

/** The request, its session, or the refresh of a proxy's own token names the proxy. */
function isNamed(model: Model, request: RecordedRequest): boolean {
  const { token } = model.policy!; // Checked before.
  const isRefresh = token?.scope === "proxy" && request.ttlMs === token.deadlineMs;
  return isRefresh || request.proxyId !== undefined || boundProxy(model, request) !== undefined;
}

/** The lowest comes first. */
type Order = readonly [number, number, number];

/** Undefined: it is drawn, or not all figures are known. */
function orderOf(model: Model, proxy: ProxyModel): Order | undefined {
  const { exit } = proxy;
  switch (model.policy?.strategy.kind) {
    case "best":
      return [proxy.granted > 0 ? 1 : 0, -proxy.score, lastUsed(proxy)];
    case "round-robin":
      return [0, 0, lastUsed(proxy)];
    case "lifo":
      return [0, 0, -proxy.stackOrder];
    case "drain": {
      const spent = spentWindow(model, exit);
      return spent === undefined ? undefined : [spent === null ? 0 : 1, 0, proxy.addedOrder];
    }
    case "least-used": {
      const uses = usesInWindow(model, exit);
      return uses === undefined ? undefined : [uses, 0, lastUsed(proxy)];
    }
    case "least-connections":
      return [leasesOf(exit), proxy.openLeases, lastUsed(proxy)];
    case "time-based":
      return [hasTurn(model, proxy) ? 0 : 1, 0, proxy.granted > 0 ? proxy.turnOrder : lastUsed(proxy)];
    default:
      return undefined;
  }
}

/** Orders are below it: proxies that were never used come before all others, in the order of adding. */
const neverUsed = 2 ** 52;

function lastUsed(proxy: ProxyModel): number {
  return proxy.granted > 0 ? proxy.usedOrder : proxy.addedOrder - neverUsed;
}

function isBefore(a: Order | undefined, b: Order): boolean {
  if (a === undefined) return false;
  if (a[0] !== b[0]) return a[0] < b[0];
  return a[1] === b[1] ? a[2] < b[2] : a[1] < b[1];
}

/** In the first window. Undefined: not known. If proxies have windows of their own, none of them is the first. */
function usesInWindow(model: Model, exit: ExitModel): number | undefined {
  const [first] = exit.limits.rates;
  if (exit.members.some((member) => member.own !== undefined)) return undefined;
  if (first === undefined) return 0;
  return model.knowsAll(exit, first.windowMs) ? model.occupied(exit, first.windowMs) : undefined;
}

/** `time-based`: was it used in the interval that runs now? */
export function hasTurn(model: Model, proxy: ProxyModel): boolean {
  return model.policy?.strategy.kind === "time-based" && proxy.granted > 0 && proxy.lastUsedAt >= intervalAt(model);
}

function intervalAt({ at, openedAt, policy }: Model): number {
  const intervalMs = policy?.strategy.kind === "time-based" ? policy.strategy.intervalMs : 1;
  return at - ((at - openedAt) % intervalMs);
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
      const uses = usesInWindow(model, exit);
      return uses === undefined ? { lastUsedAt } : { usesInWindow: uses, lastUsedAt };
    }
    case "least-connections":
      return { openLeases: leasesOf(exit), openLeasesOwn: proxy.openLeases, lastUsedAt };
    case "time-based":
      return { intervalAt: intervalAt(model), lastUsedAt };
    default:
      return undefined;
  }
}

/**
 * A proxy that is named by a lease request or its session is not drawn. Neither is the proxy of a refresh of its own
 * token.
 */
function checkDraw(model: Model, { leaseId, strategy, ranked, request }: LeaseGranted): void {
  const { findings, chance, place, policy } = model;
  const isDrawn = Object.keys(ranked).length > 0;
  if (!isDrawn) {
    const isBound = request.session !== undefined || request.proxyId !== undefined;
    const isRefresh = policy?.token != null && request.ttlMs === policy.token.deadlineMs;
    if (!isBound && !isRefresh) findings.add("chance", `${leaseId} was drawn at random, and does not record the draw`);
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
