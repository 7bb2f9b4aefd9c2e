// A page of a past state's proxies, by id. A pool may have a million of them. So they are looked at in slices, and the
// lowest ids are kept instead of sorting all: in `up` the picker shares this process.
import { setImmediate as immediately } from "node:timers/promises";
import type { ProxyReply } from "../../protocol/proxy.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { isListed, type Listed, viewProxy } from "../../state-machines/view.ts";

/** A few milliseconds' worth. */
const lookedAtOnce = 20_000;
/** So that an answer stays below the payload limit of any NATS server. */
const pageCharsMax = 400_000;

interface Asked extends Listed {
  after?: string | undefined;
  limit: number;
}

/** `next` is set if there is a further page. */
export async function pageOf(
  past: PoolState,
  { after = "", limit, ...asked }: Asked,
): Promise<{ proxies: ProxyReply[]; next?: string | undefined }> {
  let lowest: string[] = [];
  let looked = 0;
  for (const [id, proxy] of past.proxies) {
    if (++looked % lookedAtOnce === 0) await immediately();
    if (id <= after || !isListed(proxy, asked)) continue;
    lowest.push(id);
    if (lowest.length > 4 * (limit + 1)) lowest = lowest.sort().slice(0, limit + 1);
  }
  const proxies: ProxyReply[] = [];
  let chars = 0;
  for (const id of lowest.sort()) {
    const proxy = past.proxies.get(id);
    if (proxy === undefined) continue;
    if (proxies.length === limit || chars > pageCharsMax) return { proxies, next: proxies.at(-1)?.id };
    const view = viewProxy(past, proxy);
    chars += JSON.stringify(view).length;
    proxies.push(view);
  }
  return { proxies };
}
