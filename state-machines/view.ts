// Queries: the state in the words of the protocol, as callers see it. The state holds no secrets, so the answers hold
// none.
import type { ProxyStateName } from "../events/proxy.ts";
import type { LeaseReply } from "../protocol/lease.ts";
import type { PoolReply, StatsReply } from "../protocol/pool.ts";
import type { ProxyReply } from "../protocol/proxy.ts";
import type { Candidates } from "./candidates/candidates.ts";
import { usesSinceRestOf } from "./fold/past.ts";
import type { Lease, PoolState, Proxy } from "./fold/state.ts";
import { leasableAt as leasableFrom, roomOf } from "./rules/exit.ts";
import { occupied } from "./rules/rate.ts";

/** Which proxies a list has. Absent: all. */
export interface Listed {
  state?: ProxyStateName | undefined;
  labels?: Readonly<Record<string, string>> | undefined;
  /** A part of the address, the exit, the id or a label's value, in upper or lower case. */
  text?: string | undefined;
}

export function isListed(proxy: Proxy, { state, labels, text }: Listed): boolean {
  if (state !== undefined && proxy.state !== state) return false;
  for (const name in labels) if (proxy.labels[name] !== labels[name]) return false;
  if (text === undefined || text === "") return true;
  const wanted = text.toLowerCase();
  const { id, scheme, host, port, exit } = proxy;
  const shown = [`${scheme}://${host}:${port}`, exit, id, ...Object.values(proxy.labels)];
  return shown.some((each) => each.toLowerCase().includes(wanted));
}

export function viewProxy(state: PoolState, proxy: Proxy): ProxyReply {
  const { account } = proxy;
  const window = account.limits.rates[0]?.windowMs;
  const held = roomOf(state, account, 1).held !== 0;
  const leasableAt = proxy.state === "available" && held ? leasableFrom(state, proxy, 1) : undefined;
  return {
    id: proxy.id,
    scheme: proxy.scheme,
    host: proxy.host,
    port: proxy.port,
    ...(proxy.maskedName === undefined ? {} : { username: proxy.maskedName }),
    exit: proxy.exit,
    labels: proxy.labels,
    ...(proxy.limits === undefined ? {} : { limits: proxy.limits }),
    state: proxy.state,
    ...(proxy.until > state.at ? { until: proxy.until, reasons: [...proxy.reasons] } : {}),
    ...(leasableAt === undefined || leasableAt === Infinity ? {} : { leasableAt }),
    epoch: proxy.epoch,
    score: proxy.score,
    streak: proxy.streak,
    usesSinceRest: usesSinceRestOf(account),
    usesInWindow: window === undefined ? 0 : occupied(state, account, window),
    openLeases: proxy.openLeases,
    totals: {
      granted: proxy.granted,
      succeeded: proxy.succeeded,
      failed: proxy.failed,
      neutral: proxy.neutral,
      unreported: proxy.unreported,
    },
    addedAt: proxy.addedAt,
    ...(proxy.lastUsedAt === 0 ? {} : { lastUsedAt: proxy.lastUsedAt }),
  };
}

/**
 * A lease without URL and password, and with its user name masked, as lists show it.
 * @param arrivedAt when the request arrived, in the pool's time.
 */
export function viewLease(state: PoolState, lease: Lease, arrivedAt: number): Omit<LeaseReply, "url" | "password"> {
  const { proxy, request } = lease;
  return {
    leaseId: lease.id,
    pool: state.pool,
    proxyId: proxy.id,
    scheme: proxy.scheme,
    host: proxy.host,
    port: proxy.port,
    ...(proxy.maskedName === undefined ? {} : { username: proxy.maskedName }),
    uses: lease.uses,
    epoch: lease.epoch,
    grantedAt: lease.grantedAt,
    expiresAt: lease.expiresAt,
    leftMs: Math.max(0, lease.expiresAt - arrivedAt),
    labels: proxy.labels,
    ...(request?.session === undefined ? {} : { session: request.session }),
    ...(request?.requestId === undefined ? {} : { requestId: request.requestId }),
  };
}

export function viewPool(state: PoolState): PoolReply {
  const { pool, policyVersion: version, openedAt, openedBy } = state;
  return { pool, policy: state.rules.policy, version, openedAt, ...(openedBy === undefined ? {} : { openedBy }) };
}

/** @param now.sequence of the last commit in the stream. @param now.waiting number of waiting requests. */
export function viewStats(
  state: PoolState,
  candidates: Candidates,
  now: { sequence: number; waiting: number },
): StatsReply {
  const { granted, expired, succeeded, failed, neutral, ignored } = state.totals;
  const leasable = candidates.indexFor({ minUses: 1 })?.leasable ?? 0;
  return {
    pool: state.pool,
    at: state.at,
    sequence: now.sequence,
    commits: state.commits,
    proxies: { ...state.byState, leasable },
    leases: { open: state.leases.size, granted, expired },
    outcomes: { succeeded, failed, neutral, ignored },
    refused: { ...state.refused },
    waiting: now.waiting,
    leader: { id: state.leader, term: state.term },
  };
}
