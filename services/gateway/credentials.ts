// Whether a client may use the gateway (docs/protocol.md §8.1). A key is the password, or the user name alone. Where no
// key is needed, any credentials will do, and the leases belong to the login `client`, as its own do.
import type { UserRole } from "../../protocol/verbs.ts";
import { nameIn } from "./options.ts";

/** Takes leases. */
export interface User {
  name: string;
  /** Absent: all. */
  pools?: readonly string[] | undefined;
}

export interface Door {
  userOf: (key: string) => { name?: string; role: UserRole; pools?: readonly string[] | undefined } | undefined;
  needsKey: boolean;
  /** A key is needed, and this one is not known. */
  onRefused?: ((from: string) => void) | undefined;
}

export interface Credentials {
  username: string;
  password: string;
}

export const emptyLogin: Credentials = { username: "", password: "" };
/** The login of clients without a key. */
const withoutKey: User = { name: "client" };
const roles: readonly UserRole[] = ["admin", "worker"];

/** Of `Proxy-Authorization: Basic …`. Undefined: there are none, or they cannot be read. */
export function basicIn(header: string | undefined): Credentials | undefined {
  const [, coded = ""] = /^basic +([\w+/=-]+) *$/i.exec(header ?? "") ?? [];
  const text = Buffer.from(coded, "base64").toString("utf8");
  const at = text.indexOf(":");
  return at < 0 ? undefined : { username: text.slice(0, at), password: text.slice(at + 1) };
}

/** `keyless`: a valid key is needed. A text: why this user may not. @param from the address of the client. */
export function letIn(door: Door, { username, password }: Credentials, from: () => string): User | "keyless" | string {
  const key = password === "" ? nameIn(username) : password;
  const user = key === "" ? undefined : door.userOf(key);
  if (user === undefined) {
    if (!door.needsKey) return withoutKey;
    if (key !== "") door.onRefused?.(from());
    return "keyless";
  }
  const { name = withoutKey.name, role, pools } = user;
  if (!roles.includes(role))
    return door.needsKey ? `${name} has the role ${role}, which leases no proxies.` : withoutKey;
  return { name, pools };
}
