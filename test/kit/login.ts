// The users that the first start created, and logins as one of them. They are parsed from the file directly. The file
// has no keys, so these are derived, as `remuda env` derives them.
import { createHmac } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type TestUser = { name: string; role: string; password: string; key?: string };

/** Empty if the service has no users: on a NATS server without any. */
export function usersIn(dataDir: string): TestUser[] {
  const path = join(dataDir, "users.json");
  if (!existsSync(path)) return [];
  const { users } = JSON.parse(readFileSync(path, "utf8")) as { users: (TestUser & { keyHash?: string })[] };
  return users.map((user) => (user.keyHash === undefined ? user : { ...user, key: keyOf(user) }));
}

/** The URL with that user's login; unchanged if there are no users. */
export function loginAs(dataDir: string, url: string, name: string): string {
  const user = usersIn(dataDir).find((each) => each.name === name);
  return user === undefined ? url : url.replace("://", `://${user.name}:${user.password}@`);
}

function keyOf({ password }: TestUser): string {
  return createHmac("sha256", password).update("remuda http key").digest("base64url");
}
