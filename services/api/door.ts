// Checks whether a request is let in, before anything else of it is read.
//
// A page of any website can make a browser here send requests to a loopback address, and an attacker's host name can
// point to one (DNS rebinding). Such requests name a foreign `Origin` or `Host`. Ports do not matter: everything that
// listens here belongs to this machine. Outside loopback a client must also show a key. Liveness checks need no key.
import type { IncomingHttpHeaders } from "node:http";
import { hostname } from "node:os";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { isLoopback, ownAddresses } from "../../runtime/host.ts";

/** Which requests are let in. */
export interface Door {
  /** The address on which the service listens. */
  host: string;
  /** More names under which the service is reached, in lower case. */
  names: readonly string[];
  /** Checks a client's key; undefined if no key is needed. */
  isKey: ((key: string) => boolean) | undefined;
}

/** @returns the refusal, with its status: 403 for a foreign sender, 401 for a missing key. */
export function refusedAt(
  door: Door,
  { headers, url }: { headers: IncomingHttpHeaders; url: string },
): { refusal: Refusal; status: 401 | 403 } | undefined {
  const foreign = refusalOfHost(headers, door);
  if (foreign !== undefined) return { refusal: foreign, status: 403 };
  const keyless =
    door.isKey === undefined || /^\/livez(\?|$)/.test(url) ? undefined : refusalOfKey(headers, door.isKey);
  return keyless === undefined ? undefined : { refusal: keyless, status: 401 };
}

function refusalOfHost({ host, origin }: IncomingHttpHeaders, door: Door): Refusal | undefined {
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
  const names = "localhost, 127.0.0.1, [::1], the host that REMUDA_HTTP_HOST names, or one of REMUDA_HTTP_NAMES";
  return refuse("invalid-request", `${field}: ${shown} is foreign here. Use ${names}.`, { field });
}

function refusalOfKey(
  { authorization = "" }: IncomingHttpHeaders,
  isKey: (key: string) => boolean,
): Refusal | undefined {
  const key = /^bearer +(\S+)$/i.exec(authorization)?.[1];
  if (key !== undefined && isKey(key)) return undefined;
  const what = authorization === "" ? "a key is needed" : "this key is not known";
  const how = 'the REMUDA_HTTP_KEY that "npx remuda env" or "npx remuda user add" prints';
  const message = `Authorization: ${what} here. Send "Authorization: Bearer <key>" with ${how}.`;
  return refuse("invalid-request", message, { field: "Authorization" });
}
