// The URL of a leased proxy, with its credentials. It is for replies only.
import { proxyUrl } from "../../lists/address.ts";
import type { LeaseReply } from "../../protocol/lease.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Proxy } from "../../state-machines/fold/state.ts";

type Address = Pick<LeaseReply, "url" | "scheme" | "host" | "port" | "username" | "password">;

export function addressOf(proxy: Proxy, secrets: Pick<Secrets, "get">): Address {
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
