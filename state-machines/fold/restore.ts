// A state made again from its snapshot, so that a reader need not fold a ledger from its beginning. What comes out
// must be equal to the state that the snapshot was taken of, then and after whatever is folded onto it.
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Policy } from "../../events/policy.ts";
import { keepPair, meanOf } from "../candidates/evidence.ts";
import type { Token } from "../machines/token.ts";
import { hold } from "../rules/holder.ts";
import { compileRules, limitExit, lookAtPast } from "../rules/limits.ts";
import { type Counted, type CountedSnapshot, countedOf } from "./counted.ts";
import { newMoved } from "./past.ts";
import { type Evidence, type Exit, type Lease, PoolState, type Proxy, type Session, spreadFrom } from "./state.ts";
import { restoreToken } from "./token.ts";

export interface Snapshot {
  pool: string;
  policy: Policy;
  cursor: CommitEnvelope["cursor"];
  proxies: (Omit<Proxy, "account" | "restPlace" | "forgetPlace" | "forgetAt"> & { account: string })[];
  exits: SnapshotOfExit[];
  former: (CountedSnapshot & { key: string; leases: string[]; order: number })[];
  leases: SnapshotOfLease[];
  closedLeases: SnapshotOfLease[];
  sessions: (Omit<Session, "leases"> & { leases: string[] })[];
  idleSessions: string[];
  tokens: SnapshotOfToken[];
  requests: [requestId: string, leaseId: string][];
  newcomers: Evidence | null;
  pairs: [proxyId: string, order: number, target: string, evidence: Evidence][];
  byState: PoolState["byState"];
  totals: PoolState["totals"];
  refused: PoolState["refused"];
}

type SnapshotOfToken = Omit<Token, "deadlinePlace" | "timePlace" | "changesAt">;
type SnapshotOfLease = Omit<Lease, "proxy" | "exit" | "expiryPlace"> & { proxy: string; exit: string | number };
type SnapshotOfExit = Omit<Exit, keyof Counted | "members" | "leases" | "limits" | "moved" | "groups"> &
  CountedSnapshot & {
    members: string[];
    leases: string[];
    past?: { of: number; since: number }[];
  };

/** @param snapshot as `snapshotOf` makes it; also after JSON. Throws where it does not hold together. */
export function restore(snapshot: Snapshot): PoolState {
  const { pool, policy, proxies, exits, former, leases, closedLeases, sessions, idleSessions, ...more } = snapshot;
  const { tokens, requests, ...others } = more;
  const { byState, totals, refused, pairs, ...rest } = others;
  const state = new PoolState(pool);
  Object.assign(state, rest);
  state.rules = compileRules(policy);
  Object.assign(state.byState, byState);
  Object.assign(state.totals, totals);
  Object.assign(state.refused, refused);
  for (const { order, ...exit } of former) {
    const made = Object.assign(state.exitFor(exit.key), countedOf(exit));
    made.moved = { ...newMoved(made), order };
    state.exits.delete(made.key);
    state.former.set(order, made);
  }
  for (const exit of exits) {
    const made = exitOf(state, exit);
    if (exit.past === undefined && exit.members.length > 0) continue;
    made.moved = newMoved(made);
    for (const { of, since } of exit.past ?? []) {
      const counted = known(state.former, of);
      made.moved.past.push({ of: counted, since });
      counted.moved?.countedBy.add(made);
    }
    lookAtPast(state, made.moved);
  }
  for (const { account, ...proxy } of proxies) {
    const exit = known(state.exits, account);
    state.proxies.set(proxy.id, { ...proxy, account: exit, restPlace: -1, forgetPlace: -1, forgetAt: 0 });
    state.ids.add(proxy.id);
  }
  for (const lease of leases) state.leases.set(lease.id, leaseOf(state, lease));
  for (const lease of closedLeases) state.closedLeases.set(lease.id, leaseOf(state, lease));
  for (const { leases: open, ...session } of sessions) {
    const held = new Set(open.map((id) => known(state.leases, id)));
    state.sessions.set(session.name, { ...session, leases: held });
  }
  for (const name of idleSessions) state.idleSessions.add(known(state.sessions, name));
  for (const lease of state.leases.values())
    if (lease.request?.holder !== undefined) hold(state, lease.request.holder, lease);
  for (const [id, order, target, evidence] of pairs) {
    const proxy = state.proxies.get(id) ?? forgotten(id, order);
    keepPair(state, { proxy, order, target, evidence, mean: meanOf(evidence), place: -1 });
  }
  for (const token of tokens) restoreToken(state, token);
  for (const [requestId, id] of requests) state.requests.set(requestId, known(state.leases, id));
  for (const { order, leases: open } of former)
    known(state.former, order).leases = open.map((id) => known(state.leases, id));
  for (const { key, members, leases: open } of exits) {
    const exit = known(state.exits, key);
    exit.members = members.map((id) => known(state.proxies, id));
    exit.leases = open.map((id) => known(state.leases, id));
    limitExit(state, exit);
    // A look tells whether all of them have begun their rest.
    if (exit.members.length > spreadFrom && exit.restUntil > state.at) state.spreading.add(exit);
  }
  for (const lease of state.leases.values()) state.expiries.set(lease);
  for (const proxy of state.proxies.values()) {
    if (proxy.state === "cooling" || proxy.state === "exhausted") state.rests.set(proxy);
    // When its traces end is worked out at the next look: a plan may be too early, never too late.
    if (proxy.state === "retired") state.forgets.set(proxy);
  }
  return state;
}

/** What is known of one that is no more is kept until it gives way, and can do nothing else. */
function forgotten(id: string, addedOrder: number): Proxy {
  return { id, addedOrder, state: "retired" } as Proxy; // Only these are looked at of a pair's proxy that is retired.
}

function leaseOf(state: PoolState, { proxy, exit, ...lease }: SnapshotOfLease): Lease {
  const through = typeof exit === "number" ? known(state.former, exit) : known(state.exits, exit);
  return { ...lease, proxy: known(state.proxies, proxy), exit: through, expiryPlace: -1 };
}

function exitOf(state: PoolState, { members: _members, leases: _leases, past: _past, ...exit }: SnapshotOfExit): Exit {
  const made = state.exitFor(exit.key);
  const { key: _key, ...rest } = exit;
  return Object.assign(made, rest, countedOf(exit), { limits: state.rules.limits });
}

function known<Key, Value>(map: ReadonlyMap<Key, Value>, key: Key): Value {
  const value = map.get(key);
  if (value === undefined) throw new Error(`the snapshot names ${String(key)}, and does not have it`);
  return value;
}
