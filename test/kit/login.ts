// The users that a first start made, as a test logs in as one of them. Read from the file by hand, as it is written.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type TestUser = { name: string; role: string; password: string; key?: string };

/** Empty where the service has no users: on a NATS server that has none. */
export function usersIn(dataDir: string): TestUser[] {
  const path = join(dataDir, "users.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { users: TestUser[] }).users : [];
}

/** The URL with that user's login; as it is where there are no users. */
export function loginAs(dataDir: string, url: string, name: string): string {
  const user = usersIn(dataDir).find((each) => each.name === name);
  return user === undefined ? url : url.replace("://", `://${user.name}:${user.password}@`);
}
