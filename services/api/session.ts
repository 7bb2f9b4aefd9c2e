// The session of a browser: a cookie that names a user and an end, signed. It is kept nowhere, so every API process can
// read it, and a restart ends no session. It is signed under the hash of the user's key: with a new key, or without the
// user, it is invalid at once. Other services have these hashes, too, so a secret of the API goes into the signature.
// The key itself is not in the cookie, because browsers send a cookie to every port of a host.
import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { UserRole } from "../../protocol/verbs.ts";

export const sessionMs = 12 * 3_600_000;

/** The sender of a request. */
export interface HttpUser {
  /** Absent: without a key. */
  name?: string;
  role: UserRole;
  /** Absent: all. */
  pools?: readonly string[] | undefined;
}

/** A user, and the secret that signs its sessions. It changes with the user's key. */
export type NamedUser = HttpUser & { name: string; signingKey: string };

/** Attributes of the cookie. Scripts cannot read it, and no page of another site can send it. */
const attributes = "Path=/; HttpOnly; SameSite=Strict";

/** @param given.host as the request names it. @param given.isSecure the browser speaks TLS. */
export function sessionCookie(
  user: Pick<NamedUser, "name" | "signingKey">,
  { until, host, isSecure }: { until: number; host: string | undefined; isSecure: boolean },
): string {
  const claim = `${Buffer.from(user.name).toString("base64url")}.${until}`;
  const seconds = Math.floor(sessionMs / 1000);
  const value = `${claim}.${signature(claim, user.signingKey)}`;
  return `${cookieName(host)}=${value}; ${attributes}; Max-Age=${seconds}${isSecure ? "; Secure" : ""}`;
}

/** Makes the browser forget the session. */
export function noCookie(host: string | undefined): string {
  return `${cookieName(host)}=; ${attributes}; Max-Age=0`;
}

/**
 * @returns undefined: the request has no session; without a user: its session is over, forged, or of a user who has
 * another key now.
 */
export function sessionIn(
  { cookie = "", host }: IncomingHttpHeaders,
  { userNamed, now }: { userNamed: (name: string) => NamedUser | undefined; now: number },
): { user?: HttpUser } | undefined {
  const name = `${cookieName(host)}=`;
  const sent = cookie.split(/; */).find((each) => each.startsWith(name));
  if (sent === undefined) return undefined;
  const [, claim = "", owner = "", until = "", signed = ""] =
    /^(([\w-]+)\.(\d{1,15}))\.([\w-]+)$/.exec(sent.slice(name.length)) ?? [];
  const found = owner === "" ? undefined : userNamed(Buffer.from(owner, "base64url").toString());
  if (found === undefined || now >= Number(until)) return {};
  const { signingKey, ...user } = found;
  const [ours, theirs] = [Buffer.from(signature(claim, signingKey)), Buffer.from(signed)];
  return ours.length === theirs.length && timingSafeEqual(ours, theirs) ? { user } : {};
}

function signature(claim: string, signingKey: string): string {
  return createHmac("sha256", signingKey).update(`remuda session ${claim}`).digest("base64url");
}

/** Browsers do not separate cookies by port, and several services may run on one host. */
function cookieName(host = ""): string {
  return `remuda-session-${/:(\d+)$/.exec(host)?.[1] ?? "0"}`;
}
