// Why a lease got its proxy: the available proxies, the figures that ranked them, and how much each limit left. It also
// tells how the lease ended.

import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import { counted, nameCounts, printable, showInstant } from "../../../runtime/text.ts";
import { Candidates } from "../../../state-machines/candidates/candidates.ts";
import { rankBefore } from "../../../state-machines/candidates/group.ts";
import { strategies } from "../../../state-machines/candidates/strategies.ts";
import type { PoolState, Proxy } from "../../../state-machines/fold/state.ts";
import { isFree, takenOf } from "./proxy-story.ts";
import type { Granted, Trail } from "./trail.ts";
import { listed, requested, used } from "./words.ts";

const rankedTold = 5;
const stepsTold = 12;

const whys = {
  asked: "there was no token",
  rejected: "the previous token was rejected",
  expired: "the previous token had expired",
  ahead: "the previous token was about to expire",
} as const;

/** @param state just before the grant. */
export function leaseStory(state: PoolState, granted: Granted, trail: Trail): string[] {
  const { event, at, n } = granted;
  const proxy = state.proxies.get(event.proxyId);
  const { policy } = state.rules;
  if (proxy === undefined) return [`${event.leaseId} was granted on ${event.proxyId}, which the pool does not have.`];
  const name = printable(`${proxy.scheme}://${proxy.host}:${proxy.port}, exit ${proxy.exit}`);
  const next = granted.commit.events[granted.place + 1] as Event | undefined; // The next line checks its type.
  const isRefresh = next?.type === "TokenRequested" && next.leaseId === event.leaseId;
  return [
    `${event.leaseId} was granted at ${showInstant(at)} (commit ${n}) on ${proxy.id} (${name}): ${counted(event.uses, "use")}, until ${showInstant(event.expiresAt)}.`,
    isRefresh
      ? `It was granted for a refresh of a token (${next.tokenId}), which began because ${whys[next.why]}.`
      : `The request${event.user === undefined ? "" : printable(` of ${event.user}`)}: ${requested(event.request, policy)}.`,
    ...(event.tokenId === undefined ? [] : [`It came with the token ${event.tokenId}.`]),
    ...candidates(state, event, proxy),
    room(state, event, proxy),
    ...fate(trail),
  ];
}

function candidates(state: PoolState, event: LeaseGranted, chosen: Proxy): string[] {
  const { request } = event;
  const minUses = request.minUses ?? 1;
  const indexes = new Candidates(state).indexesFor({
    labels: request.labels,
    schemes: request.schemes,
    minUses,
    token: request.token,
  });
  if (indexes === undefined) return [];
  const { plain: index, able } = indexes;
  const excluded = new Set(request.exclude);
  const matching = [...state.proxies.values()].filter((proxy) => index.matches(proxy));
  const free = matching.filter((proxy) => !excluded.has(proxy.id) && isFree(state, proxy, minUses));
  const held = nameCounts({ ...index.held, exclude: matching.filter(({ id }) => excluded.has(id)).length });
  const lines = [
    `${counted(matching.length, "proxy", "proxies")} of the pool matched it, and ${free.length} could be leased${held === "" ? "" : ` (held back: ${held})`}${able === index ? "" : `, ${able.leasable} of them with a good token`}.`,
  ];
  if (request.proxyId !== undefined) return [...lines, "The request named this proxy."];
  const session = request.session === undefined ? undefined : state.sessions.get(request.session);
  if (session?.proxyId === chosen.id) {
    lines.push(
      printable(`The session ${session.name} was bound to it by an earlier lease, so no other proxy was considered.`),
    );
    return lines;
  }
  if (session !== undefined)
    lines.push(
      printable(
        `The session ${session.name} was bound to ${session.proxyId}, which could not serve it, and is now bound to ${chosen.id}.`,
      ),
    );
  const strategy = strategies[event.strategy as keyof typeof strategies]; // An unknown one would not have been folded.
  const { order } = strategy;
  if (strategy.draws !== undefined) {
    const by = figuresOf(event.ranked);
    lines.push(
      `The strategy ${event.strategy} drew it: ${order}${by === "" ? "" : ` (${by})`}. The draw follows from the chance that the commit records.`,
    );
    return lines;
  }
  const ranked = free
    .filter((proxy) => able.matches(proxy))
    .map((proxy) => ({ proxy, rank: strategy.rank(state, proxy) }))
    .sort((a, b) => (rankBefore(a.rank, b.rank) ? -1 : 1));
  const place = ranked.findIndex(({ proxy }) => proxy === chosen) + 1;
  const came = place === 0 ? "It was not among them" : `It was number ${place} of ${free.length}`;
  lines.push(`The strategy ${event.strategy} takes ${order}. ${came}:`);
  for (const [i, { proxy }] of ranked.slice(0, rankedTold).entries()) {
    lines.push(
      `  ${i + 1}. ${proxy.id}: ${figuresOf(strategy.figures(state, proxy))}${proxy === chosen ? " (chosen)" : ""}`,
    );
  }
  if (ranked.length > rankedTold) lines.push(`  … and ${ranked.length - rankedTold} more`);
  return lines;
}

/** The figures by which strategies rank, in words. */
const figures: Record<string, string> = {
  granted: "uses granted so far",
  lastUsedAt: "last used",
  usesInWindow: "uses in the window",
  openLeases: "leases open on its exit",
  openLeasesOwn: "of its own",
  order: "place in the order",
  spent: "window filled",
  intervalAt: "interval since",
  lot: "draw",
  among: "of",
};

function figuresOf(ranked: Readonly<Record<string, number>>): string {
  return Object.entries(ranked)
    .map(([name, value]) => {
      if (name.endsWith("Milli")) return `${name.slice(0, -5)} ${value / 1000}`;
      return `${figures[name] ?? name} ${name.endsWith("At") ? (value === 0 ? "never" : showInstant(value)) : value}`;
    })
    .join(", ");
}

function room(state: PoolState, event: LeaseGranted, proxy: Proxy): string {
  const exit = proxy.account;
  const fewer =
    event.uses < (event.request.uses ?? 1)
      ? ` So it was granted ${event.uses} of the ${event.request.uses} requested uses.`
      : "";
  return printable(`Before it, its exit ${exit.key} had ${listed(takenOf(state, exit))}.${fewer}`);
}

function fate({ before, after }: Trail): string[] {
  const steps = [...before, ...after].filter(({ event }) => event.type !== "LeaseGranted");
  if (steps.length === 0) return ["Nothing more is recorded about it."];
  return [
    "Afterwards:",
    ...steps.slice(0, stepsTold).map(({ at, n, event }) => `  ${showInstant(at)} ${stepOf(event)} (commit ${n})`),
    ...(steps.length > stepsTold ? [`  … and ${steps.length - stepsTold} more`] : []),
  ];
}

function stepOf(event: Event): string {
  switch (event.type) {
    case "UseReported":
      return `${used(event)}${event.late === true ? ", late" : ""}${event.over === true ? ", beyond those granted" : ""}`;
    case "LeaseRenewed":
      return `renewed, until ${showInstant(event.expiresAt)}`;
    case "LeaseClosed":
      return event.how === "expired"
        ? `expired, so all its uses (${event.used}) count as made; its proxy is ${event.state}`
        : `${event.how}, with ${counted(event.used, "use")} made; its proxy is ${event.state}`;
    default:
      return event.type;
  }
}
