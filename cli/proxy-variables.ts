// How programs are told of a proxy: by variables, in the spellings that one or the other of them reads.
import type { LeaseReply } from "../protocol/lease.ts";

/** @param direct hosts to be reached without the proxy. `undefined` takes a variable away. */
export function proxyVariables(lease: LeaseReply, direct?: string): Record<string, string | undefined> {
  const url = urlForPrograms(lease);
  const isHttp = lease.scheme === "http" || lease.scheme === "https";
  const both = (name: string, value: string | undefined): Record<string, string | undefined> => ({
    [name.toUpperCase()]: value,
    [name.toLowerCase()]: value,
  });
  return {
    ...both("http_proxy", url),
    ...both("https_proxy", url),
    ...both("all_proxy", url),
    // One that is inherited would send some requests directly, from an address of our own: silence would be worse than failure.
    ...both("no_proxy", direct),
    // Node's own fetch heeds the variables only so, and does not start where they name a SOCKS proxy.
    NODE_USE_ENV_PROXY: isHttp ? "1" : undefined,
    REMUDA_LEASE_ID: lease.leaseId,
    REMUDA_PROXY_ID: lease.proxyId,
    REMUDA_PROXY_URL: lease.url,
    REMUDA_POOL: lease.pool,
    REMUDA_USES: String(lease.uses),
    REMUDA_TOKEN: lease.token?.value,
    REMUDA_TOKEN_ID: lease.token?.tokenId,
  };
}

/** To curl and its like "socks5" means to resolve names here: what the proxy's country sees would not be what we get. */
function urlForPrograms({ scheme, url }: LeaseReply): string {
  return scheme === "socks5" ? url.replace(/^socks5:/, "socks5h:") : url;
}
