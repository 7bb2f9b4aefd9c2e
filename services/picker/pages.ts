// The pages of lists that a leader shows.
import type { z } from "zod";
import type { leasesListRequestSchema } from "../../protocol/lease.ts";
import type { listRequestSchema, ProxyReply } from "../../protocol/proxy.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { viewLease, viewProxy } from "../../state-machines/view.ts";
import { hasLabels } from "./export.ts";
import { type Filling, fillLeasePage, fillPage } from "./page.ts";

export function proxyPage(state: PoolState, asked: z.infer<typeof listRequestSchema>): Filling<ProxyReply> {
  const view = (id: string): ProxyReply | undefined => {
    const proxy = state.proxies.get(id);
    if (proxy === undefined || (asked.state !== undefined && proxy.state !== asked.state)) return undefined;
    return hasLabels(proxy, asked.labels) ? viewProxy(state, proxy) : undefined;
  };
  return fillPage(asked, { idsAfter: (after) => state.ids.after(after), view });
}

/** @param arrivedAt when the request arrived, in the pool's time. */
export function leasePage(
  state: PoolState,
  asked: z.infer<typeof leasesListRequestSchema>,
  arrivedAt: number,
): Filling<object> {
  const { holder, proxyId } = asked;
  return fillLeasePage(asked, {
    leases: holder === undefined ? state.leases.values() : (state.holders.get(holder) ?? []),
    isMeant: (lease) => proxyId === undefined || lease.proxy.id === proxyId,
    view: (id) => {
      const lease = state.leases.get(id);
      const named = lease?.request?.holder;
      return lease && { ...viewLease(state, lease, arrivedAt), ...(named === undefined ? {} : { holder: named }) };
    },
  });
}
