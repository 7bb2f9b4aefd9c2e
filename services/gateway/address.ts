// The target of a request: absolute form, authority form (CONNECT) and reverse form, read strictly.

import { canonicalHost } from "../../protocol/host.ts";
import { invalid, type Refusal } from "../../protocol/refusal.ts";

export interface Target {
  scheme: "http" | "https";
  /** Canonical; IPv6 without brackets. */
  host: string;
  port: number;
  /** From the slash on, with the query. Of a tunnel: empty. */
  path: string;
}

/** `host[:port]` of CONNECT. The port must be there (RFC 9112, 3.2.3). */
export function readAuthority(text: string): Target | Refusal {
  const target = targetOf("https", text, "", { portNeeded: true });
  return target ?? invalid("target", "CONNECT needs host:port, such as example.com:443 or [2001:db8::1]:443");
}

/** `http://host[:port]/path`. */
export function readAbsolute(text: string): Target | Refusal {
  const [, scheme = "", authority = "", rest = ""] = /^([a-z]+):\/\/([^/?#]*)([^#]*)/i.exec(text) ?? [];
  const given = scheme.toLowerCase();
  if (given === "https")
    return invalid("target", "https:// cannot be forwarded. Use CONNECT, or the path /-/https/<host>/<path>");
  if (given !== "http") return invalid("target", "must be http://host[:port]/path");
  const target = targetOf("http", authority, rest.startsWith("/") ? rest : `/${rest}`);
  return target ?? invalid("target", "must be http://host[:port]/path, without a user name");
}

export interface Reverse {
  /** The part between `/-` and the scheme. */
  key: string | undefined;
  target: Target | Refusal;
}

/** `/-[<key>]/<http|https>/<host[:port]>[/path]`. Undefined: the path does not begin with `/-`. */
export function readReverse(text: string): Reverse | undefined {
  const [, key = "", rest] = /^\/-([^/]*)\/(.*)$/s.exec(text) ?? [];
  if (rest === undefined) return undefined;
  const [, scheme, authority = "", path = ""] = /^(https?)\/([^/?#]*)([^#]*)/.exec(rest) ?? [];
  const target =
    scheme === undefined
      ? undefined
      : targetOf(scheme as Target["scheme"], authority, path.startsWith("/") ? path : `/${path}`); // By the pattern.
  const wrong = (): Refusal =>
    invalid("target", "must be /-/http/<host[:port]>/<path> or /-/https/<host[:port]>/<path>");
  return { key: key === "" ? undefined : key, target: target ?? wrong() };
}

/** `host:port` as a header or a request line has it. The usual port is left out. */
export function authorityOf({ scheme, host, port }: Target, { always = false } = {}): string {
  const isUsual = port === (scheme === "https" ? 443 : 80);
  const name = host.includes(":") ? `[${host}]` : host;
  return isUsual && !always ? name : `${name}:${port}`;
}

export function originOf(target: Target): string {
  return `${target.scheme}://${authorityOf(target)}`;
}

function targetOf(
  scheme: Target["scheme"],
  authority: string,
  path: string,
  { portNeeded = false } = {},
): Target | undefined {
  const [, name = "", digits] = /^(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?$/i.exec(authority) ?? [];
  const host = hostIn(name);
  const port = digits === undefined ? (portNeeded ? 0 : scheme === "https" ? 443 : 80) : Number(digits);
  if (host === undefined || port < 1 || port > 65_535) return undefined;
  return { scheme, host, port, path };
}

/** A final dot, and underscores, are valid in names that DNS knows. */
function hostIn(name: string): string | undefined {
  const bare = name.replace(/\.$/, "");
  return (
    canonicalHost(bare) ?? (canonicalHost(bare.replaceAll("_", "a")) === undefined ? undefined : bare.toLowerCase())
  );
}
