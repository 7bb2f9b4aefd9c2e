// The difference between two moments of a pool: proxies, policy, leases.
import { given } from "../../protocol/given.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { viewProxy } from "../../state-machines/view.ts";

export interface Change {
  /** As a path: `rate.limit`, `labels.country`. */
  field: string;
  before?: unknown;
  after?: unknown;
}

export type Difference = ReturnType<typeof differenceOf>;

/** Both states are of the same pool. Changes by time alone, such as the slots in a window, are included. */
export function differenceOf(before: Compared, after: Compared) {
  const changed: { id: string; changes: Change[] }[] = [];
  for (const [id, proxy] of after.proxies) {
    const earlier = before.proxies.get(id);
    if (earlier === undefined) continue;
    const changes = changesIn(earlier, proxy);
    if (changes.length > 0) changed.push({ id, changes });
  }
  return {
    from: before.place,
    to: after.place,
    proxies: {
      added: [...after.proxies.keys()].filter((id) => !before.proxies.has(id)),
      gone: [...before.proxies.keys()].filter((id) => !after.proxies.has(id)),
      changed,
    },
    policy: changesIn(before.policy, after.policy),
    pool: changesIn(before.pool, after.pool),
    leases: {
      opened: [...after.leases].filter((id) => !before.leases.has(id)),
      ended: [...before.leases].filter((id) => !after.leases.has(id)),
      stillOpen: [...after.leases].filter((id) => before.leases.has(id)).length,
    },
  };
}

type Compared = ReturnType<typeof comparedOf>;

/** The compared part of a state, as a copy, because the state may be folded further. */
export function comparedOf(state: PoolState) {
  const { opened, draining, policyVersion, leader, term } = state;
  return {
    place: { at: state.at, commits: state.commits },
    proxies: new Map([...state.proxies.values()].map((proxy) => [proxy.id, viewProxy(state, proxy)])),
    policy: state.rules.policy,
    pool: { isOpen: opened, isDraining: draining, policyVersion, leader, term, ...state.totals },
    leases: new Set(state.leases.keys()),
  };
}

function changesIn(before: object, after: object, prefix = ""): Change[] {
  const [a, b] = [before as Record<string, unknown>, after as Record<string, unknown>]; // JSON documents.
  const changes: Change[] = [];
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const field = prefix + key;
    const [was, is] = [a[key], b[key]];
    if (isDocument(was) && isDocument(is)) changes.push(...changesIn(was, is, `${field}.`));
    else if (JSON.stringify(was) !== JSON.stringify(is)) changes.push({ field, ...given({ before: was, after: is }) });
  }
  return changes;
}

function isDocument(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
