// Files with secrets: other users must not be able to read them, and a written file survives a power cut.
import fs, { chmodSync, mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { createFile, readSecretIfThere, replaceFile } from "../../runtime/files.ts";
import { makeKey, readKey } from "../../runtime/key-file.ts";
import { isOnReadOnlyMount } from "../../runtime/mounts.ts";
import { loadSigningKey } from "../../runtime/signing-key.ts";
import { changeUsers, currentUsers, newUser, readUsers } from "../../runtime/users.ts";
import { runCommand } from "../kit/command.ts";

const folders: string[] = [];
afterAll(() => {
  for (const each of folders) rmSync(each, { recursive: true, force: true });
});

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "files test "));
  folders.push(folder);
  return folder;
}

describe("a file with secrets", () => {
  test.each([0o640, 0o604, 0o620, 0o666, 0o601])("is refused with mode %o, with the command that helps", (mode) => {
    const path = join(scratch(), "key");
    writeFileSync(path, "hush");
    chmodSync(path, mode);
    expect(() => readSecretIfThere(path)).toThrow(
      `${path}: other users of this machine may read or change it (mode 0${mode.toString(8)}), and it holds secrets. ` +
        `Run: chmod 600 '${path}'`,
    );
  });

  test.each([0o600, 0o400, 0o700])("is read with mode %o", (mode) => {
    const path = join(scratch(), "key");
    writeFileSync(path, "hush");
    chmodSync(path, mode);
    expect(readSecretIfThere(path)).toBe("hush");
    expect(readSecretIfThere(`${path}.none`)).toBeUndefined();
  });

  test("may be the key, the signing key or the users file: none is used while others may read it", async () => {
    const folder = scratch();
    const users = join(folder, "users.json");
    makeKey(folder);
    loadSigningKey(folder);
    await changeUsers(users, () => [newUser({ name: "ann", role: "worker", hasKey: true })]);
    expect(currentUsers(users)()).toHaveLength(1);
    for (const name of ["key", "signing-key.pem", "users.json"]) chmodSync(join(folder, name), 0o640);
    expect(() => readKey(folder)).toThrow(/key: other users .* chmod 600/);
    expect(() => loadSigningKey(folder)).toThrow(/signing-key\.pem: other users .* chmod 600/);
    expect(() => readUsers(users)).toThrow(/users\.json: other users .* chmod 600/);
    await expect(changeUsers(users, (each) => each)).rejects.toThrow(/chmod 600/);
    expect(currentUsers(users)()).toEqual([]);
  });

  test.each(["up", "user list", "env", "lease", "audit key"])("ends `%s` with one sentence", async (line) => {
    const dataDir = scratch();
    for (const name of ["users.json", "signing-key.pem"]) {
      writeFileSync(join(dataDir, name), '{"users":[]}');
      chmodSync(join(dataDir, name), 0o644);
    }
    const { code, stderr } = await runCommand(line.split(" "), { dataDir });
    const name = line === "audit key" ? "signing-key.pem" : "users.json";
    const path = join(dataDir, name);
    expect([code, stderr]).toEqual([
      2,
      `remuda: ${path}: other users of this machine may read or change it (mode 0644), and it holds secrets. ` +
        `Run: chmod 600 '${path}'\n`,
    ]);
  });
});

describe("a read-only mount", () => {
  const table = [
    "21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "22 21 0:21 / /run/secrets/key ro,relatime master:3 - tmpfs tmpfs rw,size=8k",
    "23 21 0:22 / /data rw,noatime - ext4 /dev/sdb1 ro,errors=remount-ro",
    "24 21 0:23 / /my\\040files ro - tmpfs tmpfs rw",
    "25 21 0:24 / /over ro - tmpfs tmpfs rw",
    "26 25 0:25 / /over rw - tmpfs tmpfs rw",
    "27 21 0:26 / /host rw - ext4 /dev/sdc1 rw,errors=remount-ro",
  ].join("\n");

  test.each([
    ["/run/secrets/key", true],
    ["/run/secrets/keys", false],
    ["/data/key", true],
    ["/database/key", false],
    ["/my files/key", true],
    ["/over/key", false],
    ["/host/key", false],
    ["/key", false],
  ])("has %s: %s", (path, isReadOnly) => expect(isOnReadOnlyMount(path, table)).toBe(isReadOnly));

  test("is not found where the table is missing", () => expect(isOnReadOnlyMount("/key", "")).toBe(false));
});

describe("a written file", () => {
  test.each([
    ["replaced", (path: string) => replaceFile(path, "new")],
    ["created", (path: string) => void createFile(path, "new")],
  ])("is on the disk before its name when %s, and the name before the return", (_, write) => {
    const path = join(scratch(), "key");
    const { fsyncSync, renameSync, linkSync } = fs;
    const steps: string[] = [];
    fs.fsyncSync = (file) => {
      const place = readlinkSync(`/proc/self/fd/${file}`);
      steps.push(place === dirname(path) ? "folder" : place.replace(/\.\d+\.[0-9a-f]+\.tmp$/, ".tmp"));
      fsyncSync(file);
    };
    fs.renameSync = (from, to) => {
      steps.push("name");
      renameSync(from, to);
    };
    fs.linkSync = (from, to) => {
      steps.push("name");
      linkSync(from, to);
    };
    syncBuiltinESMExports();
    onTestFinished(() => {
      Object.assign(fs, { fsyncSync, renameSync, linkSync });
      syncBuiltinESMExports();
    });
    write(path);
    expect(steps).toEqual([`${path}.tmp`, "name", "folder"]);
  });
});
