// A proxy's login: its user name and password, as one secret in the sealed bucket. Vendors put API keys in either of
// them, so the ledger has only a masked form of the user name, and no trace of the password.
import type { ProxyAddress } from "../../protocol/host.ts";
import type { Secrets } from "../../runtime/secrets.ts";

export type Login = { username: string; password?: string };

/** The secret that is stored for this proxy. Undefined if it has no login. */
export function loginSecret({ username, password }: Pick<ProxyAddress, "username" | "password">): string | undefined {
  if (username === undefined) return undefined;
  // A line break separates them: neither can have white space in it.
  return password === undefined ? username : `${username}\n${password}`;
}

/** Undefined if the proxy has no login, or if its login is lost. */
export function loginOf(secrets: Pick<Secrets, "get">, proxyId: string): Login | undefined {
  const [username, password] = secrets.get(proxyId)?.split("\n") ?? [];
  if (username === undefined) return undefined;
  return password === undefined ? { username } : { username, password };
}
