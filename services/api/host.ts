// Whose request is this? A page of any website may make a browser here send requests to a loopback address, and a name
// under a stranger's control may lead to one (DNS rebinding). Such requests name a foreign `Origin` or `Host`, and are
// refused before anything is read of them. Ports do not matter: whatever listens here is this machine's own.
import type { IncomingHttpHeaders } from "node:http";
import { type Refusal, refuse } from "../../events/refusal.ts";

/** The word is `invalid-request`, its number here is 403, as usual where it is not the request that is wrong but who sends it. */
export const foreignStatus = 403;

/** @param ownHost the host that the service was told to listen on. */
export function judgeHost(headers: IncomingHttpHeaders, ownHost: string): Refusal | undefined {
  const { host, origin } = headers;
  // HTTP/1.0 need not name a host; no browser speaks it.
  if (host !== undefined && !isOwn(nameIn(host), ownHost)) return foreign("Host", host);
  if (origin !== undefined && !isOwn(nameIn(/^https?:\/\/(.+)$/.exec(origin)?.[1] ?? ""), ownHost))
    return foreign("Origin", origin);
  return undefined;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** `127.0.0.1:7480` → `127.0.0.1`, `[::1]:7480` → `[::1]`. */
function nameIn(host: string): string {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d*)?$/i.exec(host)?.[1]?.toLowerCase() ?? "";
}

function isOwn(name: string, ownHost: string): boolean {
  return isLoopback(name) || (name !== "" && (name === ownHost.toLowerCase() || name === `[${ownHost.toLowerCase()}]`));
}

function foreign(field: "Host" | "Origin", value: string): Refusal {
  const shown = JSON.stringify(value.slice(0, 100));
  return refuse(
    "invalid-request",
    `${field}: ${shown} is foreign here. Use localhost, 127.0.0.1, [::1] or the host that REMUDA_HTTP_HOST names.`,
    { field },
  );
}
