// The ports that the parts of the gateway share, and the known facts about a request that was let in.
import type { Logger } from "pino";
import type { Block } from "../../client/block.ts";
import { RemudaRefusal } from "../../client/fault.ts";
import type { FetchLease } from "../../client/kinds.ts";
import { refuse } from "../../protocol/refusal.ts";
import type { Agents } from "../../transport/agents.ts";
import { NotAllowed, type Outbound } from "../../transport/outbound.ts";
import type { Tunnelling } from "../../transport/tunnel.ts";
import type { Target } from "./address.ts";
import type { Connections } from "./connections.ts";
import type { User } from "./credentials.ts";
import type { Leasing } from "./leasing.ts";
import type { Kind, Metrics } from "./metrics.ts";
import type { Options } from "./options.ts";
import type { KnownPool, Pools } from "./pools.ts";
import type { Sessions } from "./sessions.ts";

export interface GatewayPorts {
  pools: Pools;
  leasingFor: (user: string) => Leasing;
  agents: Agents;
  tunnelling: Tunnelling & { outbound: Outbound };
  metrics: Metrics;
  sessions: Sessions;
  connections: Connections;
  log: Logger;
  /** The pseudonym in `Via`. Undefined: no `Via` is added. */
  via: string | undefined;
}

/** A request that was let in. */
export interface Admitted {
  kind: Kind;
  user: User;
  options: Options;
  target: Target;
}

/** A request with its pool: it may be leased for. */
export interface Routed extends Admitted, KnownPool {
  leasing: Leasing;
}

/** The pool of a request, once it is known: also of one that is refused after that. */
export interface Found {
  pool?: string | undefined;
}

/** @param found gets the pool. @throws RemudaRefusal if the user may not use the pool; NotAllowed if the target is private. */
export async function route(ports: GatewayPorts, admitted: Admitted, found: Found): Promise<Routed> {
  const { user, options, target } = admitted;
  const known = await ports.pools.poolFor(target.host, options.pool);
  found.pool = known.pool;
  if (user.pools !== undefined && !user.pools.includes(known.pool))
    throw new RemudaRefusal(refuse("forbidden", `${user.name} may not lease from the pool ${known.pool}.`));
  if (!(await ports.tunnelling.outbound.admitsTarget(target.host))) throw new NotAllowed(target.host);
  return { ...admitted, ...known, leasing: ports.leasingFor(user.name) };
}

/** Which proxies the request may go through. */
export function termsOf(ports: GatewayPorts, routed: Routed): FetchLease & { proxyId?: string } {
  const { options, target, policy } = routed;
  const { labels, scheme, proxy } = options;
  const session = sessionOf(ports, routed);
  const { strategy } = policy;
  return {
    ...(session === undefined ? {} : { session }),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(scheme === undefined ? {} : { schemes: [scheme] }),
    ...(proxy === undefined ? {} : { proxyId: proxy }),
    // Only this strategy chooses by it. Otherwise each target would have blocks of its own.
    ...(strategy.kind === "bandit" && strategy.by === "target" ? { target: target.host } : {}),
  };
}

function sessionOf(
  { sessions }: GatewayPorts,
  { user: { name: user }, pool, policy, options: { session, ttlMs } }: Routed,
): string | undefined {
  // A pool forgets its sessions by itself: a longer lifetime cannot be given here.
  if (session === undefined || ttlMs === undefined || ttlMs >= policy.session.ttlMs) return session;
  return sessions.nameFor({ user, pool, session, ttlMs }, performance.now());
}

/** A session and a named proxy keep to their proxy: the same one is tried again, or none. */
export function triesOf({ options }: Routed): number {
  return options.proxy === undefined ? options.retries : 0;
}

/** Ids that the client gets with every answer that is not the gateway's own. */
export function idsOf({ lease }: Block): { "X-Remuda-Lease": string; "X-Remuda-Proxy": string } {
  return { "X-Remuda-Lease": lease.leaseId, "X-Remuda-Proxy": lease.proxyId };
}
