// Logins: the users file of a NATS server, and the URL of one of its users. A URL with a login that is not in that file
// does not change. Neither does the URL of a server without a users file.
import { createHmac } from "node:crypto";
import { join } from "node:path";
import { accounts, isUserRole, rightsFor, roles, rolesOfLogins, streamAccounts } from "../protocol/rights.ts";
import type { UserRole } from "../protocol/verbs.ts";
import { readBrokerRecord } from "../runtime/broker/record.ts";
import type { BrokerUsers } from "../runtime/broker/server.ts";
import { usersConf } from "../runtime/broker/users-conf.ts";
import type { Config } from "../runtime/config.ts";
import type { Hashed } from "../runtime/credentials.ts";
import { Fault } from "../runtime/fault.ts";
import { replaceFile } from "../runtime/files.ts";
import { hereOf, isLoopback } from "../runtime/host.ts";
import { hasLogin, hostsIn, readNatsUrl, withLogin } from "../runtime/nats-url.ts";
import { changeUsers, currentUsers, readUsers, type User, usersByKey, withNamed } from "../runtime/users.ts";
import type { Users } from "../services/picker/who.ts";

export function usersFileOf(config: Config): string {
  return config.natsUsers ?? join(config.dataDir, "users.json");
}

/** Logins that act for users have keys for HTTP. */
const builtIn = roles.map((name) => ({ name, hasKey: name in rolesOfLogins }));

/** The role of a user as the contract names it. Undefined: it is a login of a service, or reads ledgers alone. */
export function roleOf({ role }: Pick<User, "role">): UserRole | undefined {
  return isUserRole(role) ? role : rolesOfLogins[role];
}

/** Finds the user of a key, as the users file has it now. */
export function userOfKeys(config: Config): (key: string) => KeyUser | undefined {
  const userByKey = usersByKey(usersFileOf(config));
  return (key) => {
    const user = userByKey(key);
    const role = user && roleOf(user);
    return user && role && { name: user.name, role, pools: user.pools };
  };
}

/**
 * Finds a user with a key by its name, as the users file has it now. The users files of other services have the hashes
 * of the keys, too. But only the API's has the password of its own login.
 */
export function usersByName(config: Config): (name: string) => (KeyUser & { signingKey: string }) | undefined {
  const current = currentUsers(usersFileOf(config));
  return (name) => {
    const users = current();
    const user = users.find((each) => each.name === name);
    const secret = users.find((each) => each.name === "http")?.password;
    const role = user && roleOf(user);
    if (user?.keyHash === undefined || role === undefined || secret === undefined) return undefined;
    const signingKey = createHmac("sha256", secret).update(user.keyHash).digest("hex");
    return { name, role, pools: user.pools, signingKey };
  };
}

interface KeyUser {
  name: string;
  role: UserRole;
  pools: readonly string[] | undefined;
}

/**
 * Finds the users of this NATS server by name, as the users file has them now. Services count as administrators.
 * Undefined: the server has no users that are known here.
 */
export function usersOn(config: Config, url: string): Users | undefined {
  if (hasLogin(url) || (config.natsUsers === undefined && !isManaged(config, url))) return undefined;
  const current = currentUsers(usersFileOf(config));
  let byName: Map<string, NonNullable<ReturnType<Users>>> | undefined;
  // The picker asks for each request. Within one turn of the event loop, the file is looked at once.
  return (name) => {
    if (byName === undefined) {
      byName = new Map(
        current().map((user) => [user.name, { role: roleOf(user) ?? "admin", pools: user.pools, quota: user.quota }]),
      );
      setImmediate(() => {
        byName = undefined;
      });
    }
    return byName.get(name);
  };
}

/** Does HTTP ask for keys? On loopback only if that is set, or if NATS can be reached from other machines. */
export function needsKeys({ httpHost, httpKeys, natsHost, natsUrl, natsUsers }: Config): boolean {
  if (httpKeys === "always" || !isLoopback(httpHost)) return true;
  if (natsUrl === undefined) return !isLoopback(natsHost);
  return natsUsers !== undefined && !hostsIn(natsUrl).every(isLoopback);
}

/** Creates the users that every installation needs, if they are missing. */
export async function ensureUsers(config: Config): Promise<void> {
  await changeUsers(usersFileOf(config), (users) => withNamed(users, builtIn));
}

/** Adds to `users` what every installation has. */
export const withBuiltIn = (users: readonly User[]): readonly User[] => withNamed(users, builtIn);

export function confOf(users: readonly Hashed<User>[]): string {
  return usersConf({ accounts, rightsFor, users });
}

/** For the managed broker. */
export function brokerUsers(config: Config): BrokerUsers {
  return {
    streamAccounts,
    writeConf: (path) =>
      changeUsers(
        usersFileOf(config),
        (users) => users,
        (users) => replaceFile(path, confOf(users)),
      ),
  };
}

/** @throws Fault "fix-setup" if the configured users file has no such user. */
export function natsUrlAs(config: Config, url: string, name: string): string {
  if (hasLogin(url)) return url;
  if (config.natsUsers === undefined && !isManaged(config, url)) return url;
  const path = usersFileOf(config);
  const users = readUsers(path);
  const user = users?.find((each) => each.name === name);
  if (user !== undefined) return withLogin(url, user);
  if (users === undefined && config.natsUsers === undefined) return url; // No service was ever started here.
  const what = users === undefined ? "does not exist" : `has no user "${name}"`;
  throw new Fault("fix-setup", `the users file ${path} ${what}. "npx remuda user conf" writes one with all users.`);
}

/**
 * Is the login in this URL in the users file of its server, as after `eval "$(npx remuda env)"`? A command that can
 * read that file may log in as any user.
 */
export function isOurLogin(config: Config, url: string): boolean {
  if (config.natsUsers === undefined && !isManaged(config, url)) return false;
  const { user, pass } = readNatsUrl(url);
  return (readUsers(usersFileOf(config)) ?? []).some(({ name, password }) => name === user && password === pass);
}

/** Is it the broker of this data directory? Its passwords must not be sent to another broker. */
function isManaged({ natsUrl, dataDir }: Config, url: string): boolean {
  if (natsUrl === undefined) return true;
  const record = readBrokerRecord(join(dataDir, "nats", "broker.json"));
  if (record === undefined) return false;
  return readNatsUrl(url).servers.every((server) => {
    const parsed = URL.parse(server);
    const host = parsed?.hostname.replace(/^\[|\]$/g, "") ?? "";
    const isHere = host === record.host || (isLoopback(host) && isLoopback(hereOf(record.host)));
    return isHere && Number(parsed?.port || 4222) === record.port;
  });
}
