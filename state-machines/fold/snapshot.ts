// The whole state as one plain document, and a state made again from it. So a reader need not fold a ledger from its
// beginning, and two states can be compared bit for bit (live against replayed). Derived indexes are left out and made
// again. Everything that a later decision could depend on is in.
import { addedLater } from "../../events/policy.ts";
import { keepPair, meanOf } from "../candidates/evidence.ts";
import type { Token } from "../machines/token.ts";
import { hold } from "../rules/holder.ts";
import { compileRules, limitExit, lookAtPast } from "../rules/limits.ts";
import { countedOf, snapshotOfCounted } from "./counted.ts";
import { isFormer, newMoved } from "./past.ts";
import { type Exit, type Lease, PoolState, type Proxy, type Session, spreadFrom } from "./state.ts";
import { restoreToken } from "./token.ts";

/** Increase it with every change of a state's form or of its folding. Snapshots of another version are not read. */
export const snapshotVersion = 14;

/** How many entries are restored between two pauses. It takes a millisecond or two. */
const entriesAtOnce = 1000;

export type Snapshot = ReturnType<typeof fieldsOf> & {
  [List in keyof typeof listsOf]: ReturnType<(typeof listsOf)[List]> extends Iterable<infer Entry> ? Entry[] : never;
};

export function snapshotOf(state: PoolState): Snapshot {
  const lists = Object.entries(listsOf).map(([name, entriesOf]) => [name, [...entriesOf(state)]]);
  return { ...fieldsOf(state), ...Object.fromEntries(lists) } as Snapshot; // It has all lists.
}

/** All but the lists. */
export function fieldsOf(state: PoolState) {
  return {
    pool: state.pool,
    opened: state.opened,
    draining: state.draining,
    openedAt: state.openedAt,
    ...(state.openedBy === undefined ? {} : { openedBy: state.openedBy }),
    keyFingerprint: state.keyFingerprint,
    policy: state.rules.policy,
    policyVersion: state.policyVersion,
    leader: state.leader,
    term: state.term,
    writtenBy: state.writtenBy,
    at: state.at,
    commits: state.commits,
    cursor: state.cursor,
    head: state.head,
    archived: state.archived,
    restored: state.restored,
    nextOrder: state.nextOrder,
    nextFormer: state.nextFormer,
    byState: state.byState,
    totals: state.totals,
    refused: state.refused,
    newcomers: state.newcomers,
  };
}

/** Each may have a million entries. */
export const listsOf = {
  proxies: ({ proxies }: PoolState) => each(proxies.values(), snapshotOfProxy),
  exits: ({ exits }: PoolState) => each(exits.values(), snapshotOfExit),
  former: ({ former }: PoolState) => each(former, ([order, exit]) => ({ order, ...snapshotOfFormer(exit) })),
  leases: ({ leases }: PoolState) => each(leases.values(), snapshotOfLease),
  closedLeases: ({ closedLeases }: PoolState) => each(closedLeases.values(), snapshotOfLease),
  sessions: ({ sessions }: PoolState) => each(sessions.values(), snapshotOfSession),
  idleSessions: ({ idleSessions }: PoolState) => each(idleSessions, (session) => session.name),
  tokens: ({ tokens }: PoolState) => each(tokens.values(), snapshotOfToken),
  requests: ({ requests }: PoolState) => each(requests, ([requestId, lease]) => [requestId, lease.id] as const),
  pairs: ({ pairs }: PoolState) =>
    each(pairs.values(), ({ proxy, order, target, evidence }) => [proxy.id, order, target, evidence] as const),
};

function* each<From, To>(items: Iterable<From>, to: (item: From) => To): Generator<To, void> {
  for (const item of items) yield to(item);
}

function snapshotOfProxy({ account, restPlace: _rest, forgetPlace: _place, forgetAt: _planned, ...others }: Proxy) {
  return { ...others, account: account.key };
}

function snapshotOfExit(exit: Exit) {
  const { members, leases: _leases, slots: _slots, bytes: _bytes, moved, groups: _groups, ...others } = exit;
  const past = moved?.past.map(({ of, since }) => ({ of: of.moved?.order ?? 0, since })) ?? [];
  const ids = members.map((proxy) => proxy.id);
  return { ...others, ...(past.length === 0 ? {} : { past }), members: ids, ...snapshotOfFormer(exit) };
}

/** Nothing is granted through a former exit any more, so it has no limits. */
function snapshotOfFormer(exit: Exit) {
  return { key: exit.key, leases: exit.leases.map((lease) => lease.id), ...snapshotOfCounted(exit) };
}

function snapshotOfLease({ proxy, exit, siblings, expiryPlace: _expiry, ...others }: Lease) {
  const through = exit.moved !== null && isFormer(exit) ? exit.moved.order : exit.key;
  return { ...others, proxy: proxy.id, exit: through, ...(siblings !== null && { with: siblings[0]?.id }) };
}

function snapshotOfToken({ deadlinePlace: _deadline, timePlace: _time, changesAt: _changes, ...others }: Token) {
  return others;
}

function snapshotOfSession({ leases, ...others }: Session) {
  return { ...others, leases: [...leases].map((lease) => lease.id) };
}

/**
 * @param snapshot as it was made, or read from JSON. The state takes over its objects, so pass a copy.
 * @returns a state that equals the one of which the snapshot was taken, and stays equal after further events.
 */
export function restore(snapshot: Snapshot): PoolState {
  const restoring = restored(snapshot);
  for (;;) {
    const step = restoring.next();
    if (step.done) return step.value;
  }
}

/** The same in slices: it pauses where it yields. */
export function* restored(snapshot: Snapshot): Generator<void, PoolState, void> {
  const { pool, policy, proxies, exits, former, leases, closedLeases, sessions, idleSessions, ...more } = snapshot;
  const { tokens, requests, pairs, ...fields } = more;
  const state: PoolState = Object.assign(new PoolState(pool), fields, {
    rules: compileRules({ ...addedLater, ...policy }),
  });
  let entries = 0;
  const isSlice = (): boolean => ++entries % entriesAtOnce === 0;
  for (const { order, leases: _leases, ...exit } of former) {
    const made = Object.assign(state.exitFor(exit.key), countedOf(exit));
    made.moved = { ...newMoved(made), order };
    state.exits.delete(made.key);
    state.former.set(order, made);
  }
  for (const { members, leases: _leases, past, ...exit } of exits) {
    if (isSlice()) yield;
    const made = Object.assign(state.exitFor(exit.key), { ...exit, ...countedOf(exit), limits: state.rules.limits });
    if (past === undefined && members.length > 0) continue;
    made.moved = newMoved(made);
    for (const { of, since } of past ?? []) {
      const counted = known(state.former, of);
      made.moved.past.push({ of: counted, since });
      counted.moved?.countedBy.add(made);
    }
    lookAtPast(state, made.moved);
  }
  for (const { account, ...proxy } of proxies) {
    if (isSlice()) yield;
    const exit = known(state.exits, account);
    state.proxies.set(proxy.id, { ...proxy, account: exit, restPlace: -1, forgetPlace: -1, forgetAt: 0 });
    state.ids.add(proxy.id);
  }
  const siblings = new Map<string, Lease[]>();
  for (const { with: first, ...given } of leases) {
    if (isSlice()) yield;
    const lease = leaseOf(state, given);
    state.leases.set(lease.id, lease);
    if (first === undefined) continue;
    lease.siblings = siblings.get(first) ?? [];
    lease.siblings.push(lease);
    siblings.set(first, lease.siblings);
  }
  for (const lease of closedLeases) {
    if (isSlice()) yield;
    state.closedLeases.set(lease.id, leaseOf(state, lease));
  }
  const openLeases = (ids: readonly string[]): Lease[] => ids.map((id) => known(state.leases, id));
  for (const session of sessions)
    state.sessions.set(session.name, { ...session, leases: new Set(openLeases(session.leases)) });
  for (const name of idleSessions) state.idleSessions.add(known(state.sessions, name));
  for (const [proxyId, order, target, evidence] of pairs) {
    const proxy = state.proxies.get(proxyId) ?? forgotten(proxyId, order);
    keepPair(state, { proxy, order, target, evidence, mean: meanOf(evidence), place: -1 });
  }
  for (const token of tokens) restoreToken(state, token);
  for (const [requestId, leaseId] of requests) state.requests.set(requestId, known(state.leases, leaseId));
  for (const { order, leases: open } of former) known(state.former, order).leases = openLeases(open);
  for (const { key, members, leases: open } of exits) {
    if (isSlice()) yield;
    const exit = known(state.exits, key);
    exit.members = members.map((id) => known(state.proxies, id));
    exit.leases = openLeases(open);
    limitExit(state, exit);
    // The next tick finds out whether all of them have begun their rest.
    if (exit.members.length > spreadFrom && exit.restUntil > state.at) state.spreading.add(exit);
  }
  for (const lease of state.leases.values()) {
    if (isSlice()) yield;
    state.expiries.set(lease);
    if (lease.request?.holder !== undefined) hold(state, lease.request.holder, lease);
  }
  for (const proxy of state.proxies.values()) {
    if (isSlice()) yield;
    if (proxy.state === "cooling" || proxy.state === "exhausted") state.rests.set(proxy);
    // The next look works out when its traces end: a plan may be too early, never too late.
    if (proxy.state === "retired") state.forgets.set(proxy);
  }
  return state;
}

/** A forgotten proxy's evidence about a target stays until a newer pair replaces it. It has no other effect. */
function forgotten(id: string, addedOrder: number): Proxy {
  return { id, addedOrder, state: "retired" } as Proxy; // Nothing else is read of a pair's retired proxy.
}

function leaseOf(state: PoolState, { proxy, exit, ...lease }: Snapshot["leases"][number]): Lease {
  const through = typeof exit === "number" ? known(state.former, exit) : known(state.exits, exit);
  return { ...lease, proxy: known(state.proxies, proxy), exit: through, siblings: null, expiryPlace: -1 };
}

function known<Key, Value>(map: ReadonlyMap<Key, Value>, key: Key): Value {
  const value = map.get(key);
  if (value === undefined) throw new Error(`the snapshot refers to ${String(key)} and does not contain it`);
  return value;
}
