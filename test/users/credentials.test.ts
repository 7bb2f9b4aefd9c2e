// The secrets in a users file: those in the clear, those that are hashed, and those in an earlier version's file.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareSync } from "bcryptjs";
import { afterAll, expect, test } from "vitest";
import { keyOf, withHash } from "../../runtime/credentials.ts";
import { changeUsers, newUser, readUsers, rotated, usersByKey, withNamed } from "../../runtime/users.ts";

const folder = mkdtempSync(join(tmpdir(), "credentials-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ann = newUser({ name: "ann", role: "worker", hasKey: true });

test("a users file has the hash of the key and of the password, and they do not change without need", async () => {
  const path = join(folder, "users.json");
  await changeUsers(path, () => [ann]);
  const [stored] = readUsers(path) ?? [];
  expect(compareSync(ann.password, stored?.passwordHash ?? "")).toBe(true);
  expect(keyOf(stored ?? ann)).toMatch(/^[\w-]{43}$/);
  expect(readFileSync(path, "utf8")).not.toContain(keyOf(ann));
  expect(usersByKey(path)(keyOf(ann) ?? "")).toEqual(stored);
  expect(usersByKey(path)(ann.password)).toBeUndefined();
  const { ino } = statSync(path);
  await changeUsers(path, (users) => withNamed(users, [{ name: "ann", hasKey: true }]));
  expect(statSync(path).ino).toBe(ino);
});

test("a rotated user has a new password and key, and the hashes of these", async () => {
  const path = join(folder, "rotated.json");
  await changeUsers(path, () => [ann]);
  await changeUsers(path, (users) => users.map(rotated));
  const [now = ann] = readUsers(path) ?? [];
  expect(compareSync(now.password, now.passwordHash ?? "")).toBe(true);
  expect(compareSync(ann.password, now.passwordHash ?? "")).toBe(false);
  expect(usersByKey(path)(keyOf(now) ?? "")?.name).toBe("ann");
  expect(usersByKey(path)(keyOf(ann) ?? "")).toBeUndefined();
});

test("a user without a key has none until it gets one", async () => {
  const bob = newUser({ name: "bob", role: "worker", hasKey: false });
  expect(keyOf(bob)).toBeUndefined();
  const [now = bob] = withNamed([bob], [{ name: "bob", hasKey: true }]);
  expect(now.password).toBe(bob.password);
  expect(keyOf(now)).toMatch(/^[\w-]{43}$/);
  expect(keyOf({ ...now, password: "withheld" })).toBeUndefined();
});

test("a file of an earlier version keeps its keys until they are rotated, and gets the hashes of passwords", async () => {
  const path = join(folder, "earlier.json");
  const earlier = { name: "eve", role: "worker", password: "p".repeat(43), key: "k".repeat(43) };
  writeFileSync(path, JSON.stringify({ v: 1, users: [earlier] }), { mode: 0o600 });
  await changeUsers(path, (users) => withNamed(users, [{ name: "eve", hasKey: true }]));
  const [stored = earlier] = readUsers(path) ?? [];
  expect(stored).toEqual({ ...earlier, passwordHash: expect.stringMatching(/^\$2b\$04\$/) });
  expect(keyOf(stored)).toBe(earlier.key);
  expect(usersByKey(path)(earlier.key)).toEqual(withHash(stored));
  const now = rotated(stored);
  expect([now.key, keyOf(now) === earlier.key]).toEqual([undefined, false]);
});

test.each(["", "null", "[]", '{"users":[{"name":"hush"}]}'])(
  "a file with %s is damaged, in a sentence that does not quote it",
  (text) => {
    const path = join(folder, "damaged.json");
    writeFileSync(path, text);
    expect(() => readUsers(path)).toThrow(
      `the users file ${path} is damaged: restore it, or remove it so that new users are created`,
    );
  },
);
