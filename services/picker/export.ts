// Proxies with their credentials, for moving a pool or keeping a copy: page by page, in the form that `proxies.add`
// accepts. This is the only answer besides a lease that has passwords in it, so it is never offered over HTTP.
import type { Labels } from "../../events/ids.ts";
import { proxyUrl } from "../../lists/address.ts";
import type { ExportReply, ExportRequest } from "../../protocol/proxy.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import type { PoolState, Proxy } from "../../state-machines/fold/state.ts";
import { proxyIdOf } from "./entries.ts";
import { type Filling, fillPage } from "./page.ts";

type Kept = ExportReply["proxies"][number];

type From = { state: PoolState; secrets: Pick<Secrets, "get">; key: InstallationKey };

export function exportPage(
  from: From,
  { after, limit, state, labels }: ExportRequest,
): Filling<Kept & { isLost: boolean }> {
  const { proxies, ids } = from.state;
  const view = (id: string) => {
    const proxy = proxies.get(id);
    if (proxy === undefined) return undefined;
    // A retired proxy would come back if it were added again.
    if (state === undefined ? proxy.state === "retired" : proxy.state !== state) return undefined;
    return hasLabels(proxy, labels) ? keptOf(proxy, from) : undefined;
  };
  return fillPage({ after, limit }, { idsAfter: (id) => ids.after(id), view });
}

export function exportReply(items: readonly (Kept & { isLost: boolean })[]): ExportReply {
  const lost = items.filter(({ isLost }) => isLost).map(({ id, url }) => ({ id, url }));
  const proxies = items.filter(({ isLost }) => !isLost).map(({ isLost: _, ...kept }) => kept);
  return { proxies, ...(lost.length === 0 ? {} : { lost }) };
}

export function hasLabels(proxy: Proxy, labels: Labels | undefined): boolean {
  for (const name in labels) if (proxy.labels[name] !== labels[name]) return false;
  return true;
}

function keptOf(proxy: Proxy, { secrets, key }: From): Kept & { isLost: boolean } {
  const { id, scheme, host, port, username, labels, limits } = proxy;
  const address = { scheme, host, port, ...(username === undefined ? {} : { username }), labels: {} };
  const password = username === undefined ? undefined : secrets.get(id);
  const whole = password === undefined ? address : { ...address, password };
  // The id depends on the password. So it tells whether the proxy had none, or whether this is the right one.
  const isLost = username !== undefined && proxyIdOf(whole, key) !== id;
  return { id, url: proxyUrl(isLost ? address : whole), labels, ...(limits === undefined ? {} : { limits }), isLost };
}
