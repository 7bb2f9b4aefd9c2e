// A users file for each service that runs alone, with only the logins that it needs. They are made from the users file
// of the installation. After that, only the commands that add users need the original.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { hasKey, withHash } from "../runtime/credentials.ts";
import { replaceFile } from "../runtime/files.ts";
import { type User, usersText } from "../runtime/users.ts";

/** By service: the users that it logs in as. */
export const loginsOf: Readonly<Record<string, readonly string[]>> = {
  picker: ["ledger", "front", "follower", "peers"],
  api: ["http", "events"],
  gateway: ["gateway"],
  sources: ["sources", "sources-front"],
  "guest-token": ["guest-token", "guest-token-events"],
  audit: ["audit", "auditor"],
};

/** They check the keys of users by their hashes, and need neither the keys nor the passwords for NATS. */
const keysGoTo = ["api", "gateway"];
const withheld = "withheld";
/** The user of the health check of the api's container. No other user can have this name. */
export const healthUser = "health";

const withoutKey = ({ key: _key, keyHash: _keyHash, ...user }: User): User => withoutHash(user);
const withoutHash = ({ passwordHash: _hash, ...user }: User): User => user;
const withoutSecrets = (user: User): User => ({ ...withoutKey(user), password: withheld });

/** Writes `<folder>/<service>/users.json` for each service, readable by its owner alone. @throws Fault "fix-setup" */
export function writeServiceUsers(folder: string, users: readonly User[]): void {
  for (const service of Object.keys(loginsOf)) {
    replaceFile(join(folder, service, "users.json"), usersText(usersFor(service, users)));
  }
}

function usersFor(service: string, users: readonly User[]): readonly User[] {
  const logins = users.filter(({ name }) => loginsOf[service]?.includes(name) === true);
  // The picker looks up the roles and quotas of the users that send requests. The sources service looks up their pools.
  const others = [...users.filter((user) => !logins.includes(user)), watcher()].map(withoutSecrets);
  if (service === "picker" || service === "sources") return [...logins.map(withoutKey), ...others];
  if (!keysGoTo.includes(service)) return logins.map(withoutKey);
  const keys = users.filter(hasKey).map((user) => ({ ...withoutHash(withHash(user)), password: withheld }));
  return [...logins.map(withoutHash), ...keys, ...(service === "api" ? [watcher()] : [])];
}

/** The api's file alone has its key. Other keys are there as hashes only. */
function watcher(): User {
  return { name: healthUser, role: "metrics", password: withheld, key: randomBytes(24).toString("base64url") };
}
