// The environment variables that pass a proxy to programs, in every usual spelling.
import type { LeaseReply } from "../protocol/lease.ts";

/** @param direct hosts to be reached without the proxy. `undefined` removes a variable. */
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
    // An inherited NO_PROXY would send some requests directly, from the address of this machine.
    ...both("no_proxy", direct),
    // Node's own fetch uses the variables only with this setting. With it, Node does not start on a SOCKS proxy.
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

/** For curl and similar programs "socks5" means that names are resolved here, not in the proxy's country. */
function urlForPrograms({ scheme, url }: LeaseReply): string {
  return scheme === "socks5" ? url.replace(/^socks5:/, "socks5h:") : url;
}
