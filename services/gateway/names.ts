// Looks names up, and remembers the addresses for a moment: the filter of targets looks at every request's target.
import { lookup } from "node:dns/promises";
import type { Resolve } from "../../transport/outbound.ts";

const rememberMs = 5000;
const namesMax = 10_000;

export function rememberingLookup(): Resolve {
  const known = new Map<string, { until: number; addresses: ReturnType<Resolve> }>();
  return (host, options) => {
    const key = `${options.family ?? 0} ${options.order ?? ""} ${host}`;
    const now = performance.now();
    const found = known.get(key);
    if (found !== undefined && found.until > now) return found.addresses;
    const addresses = lookup(host, options);
    known.delete(key);
    known.set(key, { until: now + rememberMs, addresses });
    const [oldest = ""] = known.keys();
    if (known.size > namesMax) known.delete(oldest);
    return addresses;
  };
}
