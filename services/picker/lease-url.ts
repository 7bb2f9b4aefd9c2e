// Where a leased proxy is to be reached, with its credentials: for replies, and nowhere else.
import type { Scheme } from "../../events/proxy.ts";
import { proxyUrl } from "../../lists/address.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Proxy } from "../../state-machines/fold/state.ts";

export interface LeasedAddress {
  /** With the credentials, percent-encoded. */
  url: string;
  scheme: Scheme;
  host: string;
  port: number;
  username?: string;
  password?: string;
}

export function addressOf(proxy: Proxy, secrets: Pick<Secrets, "get">): LeasedAddress {
  const password = secrets.get(proxy.id);
  const address = {
    scheme: proxy.scheme,
    host: proxy.host,
    port: proxy.port,
    ...(proxy.username === undefined ? {} : { username: proxy.username }),
    ...(password === undefined ? {} : { password }),
  };
  return { url: proxyUrl(address), ...address };
}
