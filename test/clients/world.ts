// The surroundings in which clients in other languages are tested: the shared service, a site with and without TLS, two proxies with
// a login and exits of their own, a SOCKS proxy, and a proxy that is dead.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Service, sharedService } from "../api/http.ts";
import { deadPort } from "../client/lab.ts";
import { startSite } from "../client/site.ts";
import { startForwardProxy } from "../kit/forward-proxy.ts";
import { startSocksProxy } from "../kit/socks-proxy.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";

export interface World {
  service: Service;
  /** REMUDA_HTTP_URL, SITE, SECURE_SITE, PROXIES (JSON), SOCKS_PROXY, DEAD_PROXY, CA. */
  env: Record<string, string>;
  stop(): Promise<void>;
}

/** @param folder for the certificate. */
export async function startWorld(folder: string): Promise<World> {
  const credentials = { username: "user", password: "p@ss:w/rd" };
  const [service, site, secure] = [await sharedService(), await startSite(), await startSite({ secure: true })];
  const proxies = await Promise.all(
    ["127.0.0.180", "127.0.0.181"].map((exit) => startForwardProxy({ exit, credentials })),
  );
  const socks = await startSocksProxy({ exit: "127.0.0.182", credentials });
  const ca = join(folder, "ca.pem");
  writeFileSync(ca, loopbackTls.cert);
  return {
    service,
    env: {
      REMUDA_HTTP_URL: service.url,
      SITE: site.url,
      SECURE_SITE: secure.url,
      PROXIES: JSON.stringify(proxies.map(({ url }) => url)),
      SOCKS_PROXY: `socks5://${socks.address}`,
      DEAD_PROXY: `http://127.0.0.1:${await deadPort()}`,
      CA: ca,
    },
    stop: async () => void (await Promise.all([site, secure, socks, ...proxies].map((each) => each.stop()))),
  };
}
