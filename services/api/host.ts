// Checks where a request comes from. A page of any website can make a browser here send requests to a loopback address,
// and an attacker's host name can point to one (DNS rebinding). Such requests name a foreign `Origin` or `Host`. They
// are refused before anything else is read. Ports do not matter: everything that listens here belongs to this machine.
import type { IncomingHttpHeaders } from "node:http";
import { hostname } from "node:os";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { isLoopback, ownAddresses } from "../../runtime/host.ts";

/** The code is `invalid-request`. The status here is 403, as usual when the sender is wrong, not the request. */
export const foreignStatus = 403;

/** Which requests are let in. */
export interface Door {
  /** The address on which the service listens. */
  host: string;
  /** More names under which the service is reached, in lower case. */
  names: readonly string[];
  /** Checks a client's key; undefined if no key is needed. */
  isKey: ((key: string) => boolean) | undefined;
}

export function refusalOfHost(headers: IncomingHttpHeaders, door: Door): Refusal | undefined {
  const { host, origin } = headers;
  // HTTP/1.0 need not name a host. No browser speaks it.
  if (host !== undefined && !isOwn(nameIn(host), door)) return foreign("Host", host);
  if (origin !== undefined && !isOwn(nameIn(/^https?:\/\/(.+)$/.exec(origin)?.[1] ?? ""), door))
    return foreign("Origin", origin);
  return undefined;
}

/** `127.0.0.1:7480` → `127.0.0.1`, `[::1]:7480` → `[::1]`. */
function nameIn(host: string): string {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d*)?$/i.exec(host)?.[1]?.toLowerCase() ?? "";
}

function isOwn(name: string, { host, names }: Door): boolean {
  if (name === "") return false;
  const bare = name.replace(/^\[|\]$/g, "");
  if (isLoopback(name) || bare === host.toLowerCase() || names.includes(bare)) return true;
  // On loopback the service has no other name.
  if (isLoopback(host)) return false;
  return bare === hostname().toLowerCase() || ownAddresses().includes(bare);
}

function foreign(field: "Host" | "Origin", value: string): Refusal {
  const shown = JSON.stringify(value.slice(0, 100));
  return refuse(
    "invalid-request",
    `${field}: ${shown} is foreign here. Use localhost, 127.0.0.1, [::1], the host that REMUDA_HTTP_HOST names, or one of REMUDA_HTTP_NAMES.`,
    { field },
  );
}
