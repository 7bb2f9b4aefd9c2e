// The pages of lists that a leader shows.
import type { z } from "zod";
import type { leasesListRequestSchema } from "../../protocol/lease.ts";
import type { listRequestSchema, ProxyReply } from "../../protocol/proxy.ts";
import { belongsTo } from "../../state-machines/decide/lease.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { isListed, viewLease, viewProxy } from "../../state-machines/view.ts";
import type { Call } from "./inbox.ts";
import { type Filling, fillLeasePage, fillPage } from "./page.ts";
import { ownerFor } from "./who.ts";

export function proxyPage(state: PoolState, asked: z.infer<typeof listRequestSchema>): Filling<ProxyReply> {
  const view = (id: string): ProxyReply | undefined => {
    const proxy = state.proxies.get(id);
    return proxy !== undefined && isListed(proxy, asked) ? viewProxy(state, proxy) : undefined;
  };
  return fillPage(asked, { idsAfter: (after) => state.ids.after(after), view });
}

/**
 * Workers see their own leases. Viewers see all, without the ids by which a lease can be used.
 * @param call.arrivedAt in the pool's time.
 */
export function leasePage(
  state: PoolState,
  asked: z.infer<typeof leasesListRequestSchema>,
  { arrivedAt, who }: Pick<Call, "arrivedAt" | "who">,
): Filling<object> {
  const { holder, proxyId } = asked;
  const owner = who.role === "worker" ? ownerFor(who) : undefined;
  return fillLeasePage(asked, {
    leases: holder === undefined ? state.leases.values() : (state.holders.get(holder) ?? []),
    isMeant: (lease) => (proxyId === undefined || lease.proxy.id === proxyId) && belongsTo(lease, owner),
    view: (id) => {
      const lease = state.leases.get(id);
      const named = lease?.request?.holder;
      if (lease === undefined) return undefined;
      const view = { ...viewLease(state, lease, arrivedAt), ...(named === undefined ? {} : { holder: named }) };
      return who.role === "viewer" ? withoutIds(view) : view;
    },
  });
}

function withoutIds({ leaseId: _lease, requestId: _request, ...view }: ReturnType<typeof viewLease>): object {
  return view;
}
