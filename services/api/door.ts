// Checks whether a request is let in, before anything else of it is read.
//
// A page of any website can make a browser here send requests to a loopback address, and an attacker's host name can
// point to one (DNS rebinding). Such requests name a foreign `Origin` or `Host`, or their `Sec-Fetch-Site` says that
// another site made them. Another port of this machine is another origin: anybody may listen there. Outside loopback a
// client must also show a key, or the cookie that it got for its key. Liveness checks, the files of the dashboard and
// logging in need neither.
//
// A key belongs to a user, whose role decides the rights of the request. A request without a key may do everything
// where none is needed.
import type { IncomingHttpHeaders } from "node:http";
import { hostname } from "node:os";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { UserRole } from "../../protocol/verbs.ts";
import { isLoopback, ownAddresses } from "../../runtime/host.ts";
import { type HttpUser, type NamedUser, sessionIn } from "./session.ts";

/** Which requests are let in. */
export interface Door {
  /** The address on which the service listens. */
  host: string;
  /** More names under which the service is reached, in lower case. */
  names: readonly string[];
  /** Finds the user of a key. */
  userOf: (key: string) => HttpUser | undefined;
  /** Finds a user by its name. Absent: sessions of browsers are not accepted. */
  userNamed?: ((name: string) => NamedUser | undefined) | undefined;
  /** Whether a request needs a key. */
  needsKey: boolean;
  /** It speaks TLS itself. */
  hasTls: boolean;
}

interface Sent {
  headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  rawHeaders: readonly string[];
  method: string;
  url: string;
}

/** Requests that need no key. */
const open = /^(GET|HEAD) \/(livez|web\/[\w./-]*)?(\?|$)|^(POST|DELETE) \/v1\/login$/;

/**
 * @returns the sender, or the refusal with its status: 400 for two hosts, 403 for a foreign sender, 401 for a missing
 * key.
 */
export function letIn(
  door: Door,
  { headers, rawHeaders, method, url }: Sent,
): { user: HttpUser } | { refusal: Refusal; status: 400 | 401 | 403 } {
  // A proxy in between may read the first of them, and this service the second (RFC 9112, 3.2).
  if (rawHeaders.filter((text, i) => i % 2 === 0 && text.toLowerCase() === "host").length > 1)
    return {
      refusal: refuse("invalid-request", "The Host header was sent twice. Send it once.", { field: "Host" }),
      status: 400,
    };
  const foreign = refusalOfSender(headers, door);
  if (foreign !== undefined) return { refusal: foreign, status: 403 };
  const { authorization = "" } = headers;
  const key = /^bearer +(\S+)$/i.exec(authorization)?.[1];
  const session = key === undefined ? sessionOf(headers, door) : undefined;
  const user = key === undefined ? session?.user : door.userOf(key);
  if (user !== undefined) return { user };
  // A session that is over has no rights, even where none is needed: its user may have had few.
  if (open.test(`${method} ${url}`) || (!door.needsKey && session === undefined)) return { user: { role: "admin" } };
  return { refusal: session === undefined ? keyless(authorization) : sessionOver, status: 401 };
}

function sessionOf(headers: IncomingHttpHeaders, { userNamed }: Door): ReturnType<typeof sessionIn> {
  return userNamed && sessionIn(headers, { userNamed, now: Date.now() });
}

const sessionOver = refuse("invalid-request", "Cookie: this session is over. Log in again: POST /v1/login.", {
  field: "Cookie",
});

/**
 * Why this user may not use a route; undefined if it may.
 * @param route.roles absent: any. @param route.pool absent: it belongs to no pool.
 */
export function forbiddenTo(
  { name = "This sender", role, pools }: HttpUser,
  route: { roles?: readonly UserRole[] | undefined; pool?: string | undefined },
): Refusal | undefined {
  const { roles, pool } = route;
  if (roles !== undefined && !roles.includes(role))
    return refuse("forbidden", `This needs the role ${anyOf(roles)}. ${name} has the role ${role}.`);
  if (pool === undefined || pools === undefined || pools.includes(pool)) return undefined;
  const where = pools.length === 1 ? "the pool" : "the pools";
  return refuse("forbidden", `${name} has the role ${role} in ${where} ${pools.join(", ")} alone, not in ${pool}.`);
}

function anyOf(roles: readonly string[]): string {
  return roles.length === 1 ? (roles[0] ?? "") : `${roles.slice(0, -1).join(", ")} or ${roles.at(-1) ?? ""}`;
}

function refusalOfSender(headers: IncomingHttpHeaders, door: Door): Refusal | undefined {
  const { host, origin, "sec-fetch-site": site } = headers;
  // HTTP/1.0 need not name a host. No browser speaks it.
  if (host !== undefined && !isOwn(nameIn(host), door)) return foreign("Host", host);
  if (origin !== undefined && !isOwnOrigin(origin, host, door)) return foreign("Origin", origin);
  if (site === undefined || site === "none" || site === "same-origin") return undefined;
  const shown = JSON.stringify(String(site).slice(0, 100));
  const message = `Sec-Fetch-Site: ${shown}: a page of another site made this request. Open the URL by itself.`;
  return refuse("invalid-request", message, { field: "Sec-Fetch-Site" });
}

/** The scheme, the host and the port of this service, as the request reached it. */
function isOwnOrigin(origin: string, host: string | undefined, door: Door): boolean {
  const [, scheme = "", rest = ""] = /^(https?):\/\/([^/]+)$/.exec(origin) ?? [];
  if (host === undefined || rest === "") return false;
  const name = nameIn(rest);
  // A reverse proxy may speak TLS for the names that it is reached by.
  const isScheme = scheme === (door.hasTls ? "https" : "http") || (scheme === "https" && door.names.includes(name));
  const isName = name === nameIn(host) || (isLoopback(nameIn(host)) && loopbackNames.includes(name));
  return isScheme && isName && portIn(rest, scheme) === portIn(host, scheme);
}

const loopbackNames = ["localhost", "127.0.0.1", "[::1]"];

function portIn(host: string, scheme: string): string {
  return /:(\d+)$/.exec(host)?.[1] ?? (scheme === "https" ? "443" : "80");
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
  const port = field === "Origin" ? ", with this service's own scheme and port" : "";
  return refuse("invalid-request", `${field}: ${shown} is foreign here. Use ${names}${port}.`, { field });
}

function keyless(authorization: string): Refusal {
  const what = authorization === "" ? "a key is needed" : "this key is not known";
  const how = 'the REMUDA_HTTP_KEY that "npx remuda env" or "npx remuda user add" prints';
  const message = `Authorization: ${what} here. Send "Authorization: Bearer <key>" with ${how}.`;
  return refuse("invalid-request", message, { field: "Authorization" });
}
