// Proxies with their credentials, for moving a pool or keeping a copy: page by page, in the form that `proxies.add`
// accepts. This is the only answer besides a lease that has logins in it, so it is never offered over HTTP.
import { proxyUrl } from "../../lists/address.ts";
import type { ExportReply, ExportRequest } from "../../protocol/proxy.ts";
import type { InstallationKey, Secrets } from "../../runtime/secrets.ts";
import type { PoolState, Proxy } from "../../state-machines/fold/state.ts";
import { isListed } from "../../state-machines/view.ts";
import { proxyIdOf } from "./entries.ts";
import { loginOf } from "./logins.ts";
import { type Filling, fillPage } from "./page.ts";

/** `lostName`: the masked user name of a proxy whose login is lost. */
type Item = ExportReply["proxies"][number] & { lostName?: string };

type From = { state: PoolState; secrets: Pick<Secrets, "get">; key: InstallationKey };

export function exportPage(from: From, { after, limit, state, labels }: ExportRequest): Filling<Item> {
  const { proxies, ids } = from.state;
  const view = (id: string) => {
    const proxy = proxies.get(id);
    if (proxy === undefined) return undefined;
    // A retired proxy would come back if it were added again.
    if (state === undefined && proxy.state === "retired") return undefined;
    return isListed(proxy, { state, labels }) ? itemOf(proxy, from) : undefined;
  };
  return fillPage({ after, limit }, { idsAfter: (id) => ids.after(id), view });
}

export function exportReply(items: readonly Item[]): ExportReply {
  const lost = items.flatMap(({ id, url, lostName }) =>
    lostName === undefined ? [] : { id, url, username: lostName },
  );
  const proxies = items.flatMap(({ lostName, ...kept }) => (lostName === undefined ? kept : []));
  return { proxies, ...(lost.length === 0 ? {} : { lost }) };
}

function itemOf({ id, scheme, host, port, maskedName, labels, limits }: Proxy, { secrets, key }: From): Item {
  const bare = { scheme, host, port, labels: {} };
  const whole = { ...bare, ...(maskedName === undefined ? undefined : loginOf(secrets, id)) };
  // The id depends on the login. So it tells whether this is the right one.
  const lost = maskedName !== undefined && proxyIdOf(whole, key) !== id ? { lostName: maskedName } : {};
  const url = proxyUrl("lostName" in lost ? bare : whole);
  return { id, url, labels, ...(limits === undefined ? {} : { limits }), ...lost };
}
