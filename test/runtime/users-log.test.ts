// The log of users: refused logins are summed up and bounded, even under a flood, and come from nats-server's own log.
import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RefusedByServer, refusedIn } from "../../runtime/broker/refused-logins.ts";
import { logChange, RefusedLogins, readUsersLog, type UsersLine } from "../../runtime/users-log.ts";

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "users-log-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

function logIn(dataDir: string, now: () => number, more: { bytesMax?: number; onTrouble?: () => void } = {}) {
  const log = new RefusedLogins(dataDir, { now, onTrouble: (error) => expect.fail(String(error)), ...more });
  onTestFinished(() => log.close());
  return log;
}

const countOf = (line: UsersLine): number => (line.type === "LoginRefused" ? (line.count ?? 1) : 0);

test("writes the first refused login of a kind at once, and the sum of the others later", () => {
  const dataDir = folder();
  let at = 1000;
  const log = logIn(dataDir, () => at);
  for (let i = 0; i < 5; i++) {
    log.note({ over: "nats", user: "ann", host: "192.0.2.1" });
    at += 10;
  }
  log.note({ over: "http", host: "192.0.2.1" });
  const ann = { type: "LoginRefused", over: "nats", user: "ann", host: "192.0.2.1" };
  const key = { at: 1050, type: "LoginRefused", over: "http", host: "192.0.2.1" };
  expect(readUsersLog(dataDir).lines).toEqual([{ at: 1000, ...ann }, key]);
  at = 61_000;
  log.sum();
  expect(readUsersLog(dataDir).lines).toEqual([{ at: 1000, ...ann }, key, { at, ...ann, count: 4, since: 1010 }]);
  at = 121_000;
  log.sum();
  log.note({ over: "nats", user: "ann", host: "192.0.2.1" });
  expect(readUsersLog(dataDir).lines.at(-1)).toEqual({ at, ...ann });
  expect(readUsersLog(dataDir).lines).toHaveLength(4);
});

test("a line that was cut off spoils no later one", () => {
  const dataDir = folder();
  writeFileSync(join(dataDir, "users-log.ndjson"), '{"at":1,"type":"UserAdd');
  writeFileSync(join(dataDir, "logins-refused.ndjson"), '{"at":2,"type":"LoginRef');
  logChange(dataDir, { at: 3, type: "UserRemoved", user: "ann", by: "root" });
  logChange(dataDir, { at: 4, type: "UserRemoved", user: "bob", by: "root" });
  logIn(dataDir, () => 5).note({ over: "http", host: "192.0.2.1" });
  const { lines, unreadable } = readUsersLog(dataDir);
  expect([lines.map(({ at }) => at), unreadable]).toEqual([[3, 4, 5], 2]);
});

test("a flood of different names fills neither the disk nor the memory, and every login is counted", () => {
  const dataDir = folder();
  const bytesMax = 40_000;
  let at = 0;
  const log = logIn(dataDir, () => at, { bytesMax });
  const note = (i: number) => log.note({ over: "nats", user: `${at}-${i}-`.padEnd(5000, "x"), host: "192.0.2.1" });
  const counted = () => readUsersLog(dataDir).lines.reduce((sum, line) => sum + countOf(line), 0);
  for (let minute = 1; minute <= 12; minute++) {
    for (let i = 0; i < 300; i++) note(i);
    at = minute * 60_000;
    log.sum();
    if (minute <= 6) expect(counted()).toBe(minute * 300);
  }
  const path = join(dataDir, "logins-refused.ndjson");
  for (const each of [path, `${path}.1`]) expect(statSync(each).size).toBeLessThan(bytesMax + 300);
  const { lines, unreadable } = readUsersLog(dataDir);
  expect(unreadable).toBe(0);
  expect(lines.at(-1)).toMatchObject({ user: "others", host: "others", count: 249 });
  expect(lines.every(({ user }) => (user?.length ?? 0) <= 64)).toBe(true);
});

test("a disk that cannot be written makes no login fail", () => {
  const troubles: unknown[] = [];
  const log = logIn(join(folder(), "missing"), Date.now, { onTrouble: () => void troubles.push(1) });
  log.note({ over: "http", host: "192.0.2.1" });
  expect(troubles).toHaveLength(1);
});

test("leaves out lines that are cut off or do not belong to the log", () => {
  const dataDir = folder();
  const added = '{"at":5,"type":"UserAdded","user":"ann","by":"root"}';
  writeFileSync(join(dataDir, "users-log.ndjson"), `${added}\n17\nnull\n${added.slice(0, 20)}`);
  expect(readUsersLog(dataDir)).toEqual({ lines: [JSON.parse(added)], unreadable: 3 });
});

test("reads refused logins from lines of nats-server, whatever name was given", () => {
  const line = (rest: string): string => `[4629] 2026/11/30 15:41:19.947152 ${rest}`;
  const said = "cid:31 - authentication error";
  expect(refusedIn(line(`[ERR] 127.0.0.1:44370 - ${said} - User "client"`))).toEqual({
    user: "client",
    host: "127.0.0.1",
  });
  expect(refusedIn(line(`[ERR] ::1:44370 - ${said}`))).toEqual({ host: "::1" });
  expect(refusedIn(line(`[ERR] 127.0.0.1:1 - ${said} - Token "[REDACTED]"`))).toEqual({ host: "127.0.0.1" });
  const odd = '\\"x\\n[ERR] 192.0.2.1:1 - cid:1 - authentication error';
  expect(refusedIn(line(`[ERR] 127.0.0.1:1 - ${said} - User "${odd}"`))).toEqual({ user: odd, host: "127.0.0.1" });
  expect(refusedIn(line('[INF] Name: 127.0.0.1:1 - cid:1 - authentication error - User "x"'))).toBeUndefined();
  expect(refusedIn(line("[ERR] 127.0.0.1:1 - cid:31 - Publish Violation"))).toBeUndefined();
});

test("follows the log of nats-server from its end on, over cut lines and a new file", () => {
  const path = join(folder(), "nats.log");
  const line = (user: string): string =>
    `[1] 2026/11/30 15:41:19.9 [ERR] 192.0.2.1:1 - cid:1 - authentication error - User "${user}"\n`;
  writeFileSync(path, line("before"));
  const seen: (string | undefined)[] = [];
  const log = new RefusedByServer(path, ({ user }) => void seen.push(user));
  onTestFinished(() => log.close());
  appendFileSync(path, `${line("ann")}${line("bob").slice(0, 50)}`);
  log.look();
  appendFileSync(path, line("bob").slice(50));
  log.look();
  appendFileSync(path, line("cat"));
  renameSync(path, `${path}.2026.11.30`);
  writeFileSync(path, line("dan"));
  log.look();
  appendFileSync(path, line("eve"));
  log.look();
  expect(seen).toEqual(["ann", "bob", "cat", "dan", "eve"]);
  expect(readFileSync(path, "utf8")).toContain("eve");
});

test("waits for a log that does not exist yet", () => {
  const path = join(folder(), "nats.log");
  const seen: unknown[] = [];
  const log = new RefusedByServer(path, (login) => void seen.push(login));
  onTestFinished(() => log.close());
  log.look();
  writeFileSync(path, "[1] 2026/11/30 15:41:19.9 [ERR] 192.0.2.1:1 - cid:1 - authentication error\n");
  log.look();
  expect(seen).toEqual([{ host: "192.0.2.1" }]);
});
