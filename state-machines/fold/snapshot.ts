// The whole state as one plain document, for comparing two of them bit for bit: live against replayed. Derived indexes
// are left out; everything that a later decision could depend on is in.

import type { Token } from "../machines/token.ts";
import { snapshotOfCounted } from "./counted.ts";
import type { Exit, Lease, PoolState, Proxy, Session } from "./state.ts";

export function snapshotOf(state: PoolState): unknown {
  return {
    pool: state.pool,
    opened: state.opened,
    draining: state.draining,
    openedAt: state.openedAt,
    keyFingerprint: state.keyFingerprint,
    policy: state.rules.policy,
    policyVersion: state.policyVersion,
    leader: state.leader,
    term: state.term,
    at: state.at,
    commits: state.commits,
    cursor: state.cursor,
    head: state.head,
    nextOrder: state.nextOrder,
    nextFormer: state.nextFormer,
    byState: state.byState,
    totals: state.totals,
    refused: state.refused,
    proxies: [...state.proxies.values()].map(snapshotOfProxy),
    exits: [...state.exits.values()].map(snapshotOfExit),
    former: [...state.former].map(([order, exit]) => ({ order, ...snapshotOfFormer(exit) })),
    leases: [...state.leases.values()].map(snapshotOfLease),
    closedLeases: [...state.closedLeases.values()].map(snapshotOfLease),
    sessions: [...state.sessions.values()].map(snapshotOfSession),
    idleSessions: [...state.idleSessions].map((session) => session.name),
    tokens: [...state.tokens.values()].map(snapshotOfToken),
    requests: [...state.requests].map(([requestId, lease]) => [requestId, lease.id]),
    newcomers: state.newcomers,
    pairs: [...state.pairs.values()].map(({ proxy, order, target, evidence }) => [proxy.id, order, target, evidence]),
  };
}

function snapshotOfProxy(proxy: Proxy): unknown {
  const { account, restPlace: _rest, forgetPlace: _place, forgetAt: _planned, ...rest } = proxy;
  return { ...rest, account: account.key };
}

function snapshotOfExit(exit: Exit): object {
  const { members, leases, slots: _slots, bytes: _bytes, moved, groups: _groups, ...rest } = exit;
  const past = moved?.past.map(({ of, since }) => ({ of: of.moved?.order, since })) ?? [];
  return {
    ...rest,
    ...(past.length === 0 ? {} : { past }),
    members: members.map((proxy) => proxy.id),
    leases: leases.map((lease) => lease.id),
    ...snapshotOfCounted(exit),
  };
}

/** Nothing is granted through it any more, so that it has no limits. */
function snapshotOfFormer(exit: Exit): object {
  return { key: exit.key, leases: exit.leases.map((lease) => lease.id), ...snapshotOfCounted(exit) };
}

function snapshotOfLease(lease: Lease): unknown {
  const { proxy, exit, expiryPlace: _expiry, ...rest } = lease;
  const former = exit.moved?.order ?? 0;
  return { ...rest, proxy: proxy.id, exit: former > 0 ? former : exit.key };
}

function snapshotOfToken(token: Token): unknown {
  const { deadlinePlace: _deadline, timePlace: _time, changesAt: _changes, ...rest } = token;
  return rest;
}

function snapshotOfSession({ leases, ...rest }: Session): unknown {
  return { ...rest, leases: [...leases].map((lease) => lease.id) };
}
