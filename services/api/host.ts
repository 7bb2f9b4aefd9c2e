// Whose request is this? A page of any website may make a browser here send requests to a loopback address, and a name
// under a stranger's control may lead to one (DNS rebinding). Such requests name a foreign `Origin` or `Host`, and are
// refused before anything is read of them. Ports do not matter: whatever listens here is this machine's own.
import type { IncomingHttpHeaders } from "node:http";
import { hostname } from "node:os";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { isLoopback, ownAddresses } from "../../runtime/host.ts";

/** The word is `invalid-request`, its number here is 403, as usual where it is not the request that is wrong but who sends it. */
export const foreignStatus = 403;

/** Who is let in. */
export interface Door {
  /** What the service was told to listen on. */
  host: string;
  /** More names under which it is reached, in lower case. */
  names: readonly string[];
  /** Judges the keys of those who ask; undefined: none is needed. */
  isKey: ((key: string) => boolean) | undefined;
}

export function judgeHost(headers: IncomingHttpHeaders, door: Door): Refusal | undefined {
  const { host, origin } = headers;
  // HTTP/1.0 need not name a host; no browser speaks it.
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
  // On loopback nobody reaches it by another name.
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
