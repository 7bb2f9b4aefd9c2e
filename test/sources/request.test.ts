// Sources set by request and in the file, which is the one truth of both.
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import {
  ask,
  asked,
  bus,
  clock,
  configure,
  folder,
  inPool,
  list,
  looked,
  pool,
  retire,
  said,
  siteUrl,
  sources,
  start,
  startWith,
  statusOf,
} from "./setting.ts";

test("sources are set, listed and removed by request, and the file is the truth", async () => {
  await start({ name: "byhand", from: { kind: "command", command: ["printf", ""] } });
  const from = { kind: "url", url: `${siteUrl}/list?key=s3cret` };
  expect(await ask("put", { name: "site", from })).toMatchObject({ name: "site", pool, kind: "url" });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  const stored = JSON.parse(readFileSync(join(folder, "sources.json"), "utf8"));
  expect(stored.sources.map(({ name }: { name: string }) => name)).toEqual(["byhand", "site"]);
  expect(statSync(join(folder, "sources.json")).mode & 0o777).toBe(0o600);
  expect(JSON.stringify(await ask("list"))).not.toContain("s3cret");

  for (const [body, field] of [
    [{ name: "x", from: { kind: "command", command: ["reboot"] } }, "from"],
    [{ name: "x", from: { kind: "file", path: "/etc/passwd" } }, "from"],
    [{ name: "X!", from }, "name"],
    [{ name: "x", from: { kind: "url", url: "ftp://a/" } }, "from.url"],
    [{ name: "x", from, everyMs: 1 }, "everyMs"],
    [{ name: "byhand", from }, "name"],
  ] as const) {
    expect(await ask("put", body), JSON.stringify(body)).toMatchObject({
      code: "invalid-request",
      field: expect.stringContaining(field),
    });
  }
  expect(await ask("remove", { name: "byhand" })).toMatchObject({ code: "invalid-request" });
  expect(await ask("remove", { name: "site" })).toEqual({ removed: "site" });
  expect(await ask("remove", { name: "site" })).toMatchObject({ code: "invalid-request", field: "name" });
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("a header that cannot be sent is refused with where it stands, and nothing of it is told", async () => {
  await start();
  const put = (headers: object) => ask("put", { name: "x", from: { kind: "url", url: siteUrl, headers } });
  for (const [headers, field, message] of [
    [{ "Authorization: Bearer s3cret": "" }, "from.headers", "has a name that is no header's"],
    [{ "Authorization: Bearer s3cret": 5 }, "from.headers", "has a name that is no header's"],
    [{ "": "s3cret" }, "from.headers", "has a name that is no header's"],
    [{ "Content-Length": "5" }, "from.headers", "has content-length, which every request sets itself"],
    [{ "x-key": "s3cret\n" }, "from.headers.x-key", "must be one line of Latin-1 characters"],
    [{ "x-key": "s3cr€t" }, "from.headers.x-key", "must be one line of Latin-1 characters"],
  ] as const) {
    const refusal = await put(headers);
    expect(refusal, field).toMatchObject({ code: "invalid-request", field, message: expect.stringContaining(message) });
    expect(JSON.stringify(refusal)).not.toMatch(/s3cr/);
  }
  expect(await put({ "X-Key": "grün" })).toMatchObject({ name: "x" });
});

test("what is wrong with the file is said with its place, and nothing of what stands there", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  for (const [text, why] of [
    ['{"sources": [\n  {"name": "s3cret",}\n]}', "it is not JSON, from line 2 on (expected"],
    ['{"sources": [{"name": s3cret}]}', "it is not JSON (expected"],
    ["[]", "it is no such object (expected"],
    ['"s3cret"', "it is no such object (expected"],
    ['{"sources": [{"name": "x"}]}', "sources.0.from: is missing; it must be an object; the sources stay"],
  ] as const) {
    said.length = 0;
    writeFileSync(join(folder, "sources.json"), text);
    await eventually(() => {
      clock.move(2000);
      expect(said.join()).toContain("the sources stay as they were");
    });
    expect(JSON.parse(said[0] ?? "").msg).toContain(`${join(folder, "sources.json")}: ${why}`);
    expect(said.join()).not.toContain("s3cret");
  }
});

test("a change of the file is followed, and a mistake in it leaves everything as it is", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  await eventually(async () => expect(await inPool()).toEqual([1]));
  const path = join(folder, "sources.json");
  writeFileSync(path, '{"sources": [{"name": "one", "from": {"kind": "url"}}]}');
  clock.move(2000);
  await eventually(() =>
    expect(said.join()).toMatch(/sources\.json: sources\.0\.from\.url: .*; the sources stay as they were/),
  );
  expect(await statusOf("one")).toMatchObject({ kind: "command" });
  writeFileSync(
    path,
    JSON.stringify({ sources: [{ name: "two", pool, from: { kind: "command", command: ["printf", list(2)] } }] }),
  );
  await eventually(async () => {
    clock.move(2000);
    expect(await inPool()).toEqual([1, 2]);
  });
  expect(await statusOf("one")).toBeUndefined();
});

test("who has just changed the file by hand loses nothing to a request", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  const path = join(folder, "sources.json");
  const from = { kind: "url", url: siteUrl };
  configure({ name: "two", from: { kind: "command", command: ["printf", list(2)] } });
  expect(await ask("put", { name: "site", from })).toMatchObject({ name: "site" });
  const names = () =>
    (JSON.parse(readFileSync(path, "utf8")) as { sources: { name: string }[] }).sources.map(({ name }) => name);
  expect(names()).toEqual(["two", "site"]);

  const half = '{"sources": [{"name": "three", ';
  writeFileSync(path, half);
  for (const answer of [await ask("put", { name: "other", from }), await ask("remove", { name: "site" })])
    expect(answer).toMatchObject({ code: "unavailable", message: expect.stringContaining("it is not JSON") });
  expect(readFileSync(path, "utf8")).toBe(half);
  expect(await statusOf("site")).toBeDefined();
});

test("a file that cannot be written, or be looked at, is a refusal, and everything goes on", async () => {
  const from = { kind: "url", url: siteUrl };
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  mkdirSync(join(folder, "sources.json.new"));
  expect(await ask("put", { name: "site", from })).toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(/sources\.json cannot be written \(EISDIR\)/),
  });
  expect(await statusOf("site")).toBeUndefined();
  rmSync(join(folder, "sources.json"));
  mkdirSync(join(folder, "sources.json"));
  chmodSync(join(folder, "sources.json"), 0);
  await eventually(() => {
    clock.move(2000);
    expect(said.join()).toMatch(/sources\.json: it cannot be read .*; the sources stay as they were/);
  });
  expect(await statusOf("one")).toBeDefined();
});

test("a pool is not its own source, nor one of those that it feeds", async () => {
  const from = (name: string) => ({ kind: "pool", pool: name });
  await start(
    { name: "first", pool: `${pool}-b`, from: from(`${pool}-a`) },
    { name: "second", pool, from: from(`${pool}-b`) },
  );
  expect(await ask("put", { name: "self", from: from(pool) })).toMatchObject({
    code: "invalid-request",
    field: "from.pool",
    message: expect.stringContaining(`(${pool} → ${pool})`),
  });
  configure(
    { name: "first", pool: `${pool}-b`, from: from(`${pool}-a`) },
    { name: "second", pool, from: from(`${pool}-b`) },
    { name: "third", pool: `${pool}-a`, from: from(pool) },
  );
  await eventually(() => {
    clock.move(2000);
    expect(said.join()).toMatch(/each other's source in a circle \(\S+ → \S+ → \S+ → \S+\); the sources stay/);
  });
});

test("refuses a request that is too large or no JSON as the other services do", async () => {
  await startWith();
  expect(await ask("list", { pad: "x".repeat(513 * 1024) })).toMatchObject({ code: "too-large" });
  for (const body of ["{", new Uint8Array([0x22, 0xff, 0x22])]) {
    const reply = await bus.nc.request(`remuda.sources.list.${pool}`, body, { timeout: 20_000 });
    expect(reply.headers?.get("Nats-Service-Error-Code")).toBe("400");
    expect(reply.json()).toMatchObject({ code: "invalid-request", message: expect.stringContaining("not JSON") });
  }
});

test("an answer goes to an inbox, and nowhere else", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  const heard: string[] = [];
  const elsewhere = bus.nc.subscribe("elsewhere.>", {
    callback: (_error, message) => void heard.push(message.subject),
  });
  bus.nc.publish(`remuda.sources.list.${pool}`, "", { reply: "elsewhere.one" });
  bus.nc.publish("elsewhere.two", "");
  expect(await ask("list")).toMatchObject({ sources: [{ name: "one" }] });
  await eventually(() => expect(heard).toContain("elsewhere.two"));
  elsewhere.unsubscribe();
  expect(heard).toEqual(["elsewhere.two"]);
});

test("a file that is wrong at the start is no reason for all else not to start, and is followed once it is mended", async () => {
  writeFileSync(join(folder, "sources.json"), "{");
  await expect(startWith()).rejects.toThrow(/sources\.json: it is not JSON/);
  await sources.stop();
  await startWith({ mayBeWrong: true });
  expect(said.join()).toMatch(/it is not JSON/);
  expect(await ask("list")).toEqual({ sources: [] });
  configure({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  await eventually(async () => {
    clock.move(2000);
    expect(await inPool()).toEqual([1]);
  });
});

test("of two on one data directory one follows and answers; when it ends the other does, with what it has kept", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await looked("site");
  const first = sources;
  await startWith();
  expect(said.join()).toContain("another process follows the sources of this data directory");
  for (let i = 0; i < 5; i++) {
    clock.move(2000);
    await ask("list");
  }
  expect(asked).toHaveLength(1);
  const answers: string[] = [];
  const inbox = bus.nc.subscribe("_INBOX.two", { callback: (_error, { subject }) => void answers.push(subject) });
  bus.nc.publish(`remuda.sources.list.${pool}`, "", { reply: "_INBOX.two" });
  await ask("list");
  await ask("list");
  inbox.unsubscribe();
  expect(answers).toHaveLength(1);

  await retire(2);
  await first.stop();
  await eventually(async () => {
    clock.move(2000);
    expect(asked).toHaveLength(2);
  });
  await looked("site");
  expect(await statusOf("site")).toMatchObject({ proxies: 4, last: { added: 0 } });
  expect(await inPool()).toEqual([1, 3, 4]);
});

test("one that waits its turn ends at once, and the one that is after it has its turn", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  const first = sources;
  await startWith();
  await sources.stop();
  await first.stop();
  await startWith();
  expect(await statusOf("site")).toBeDefined();
});

test("where nothing can be locked the sources are followed all the same, and it is said", async () => {
  const place = join(folder, "no-folder");
  writeFileSync(place, "");
  configure({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  await startWith({ seen: place });
  await eventually(async () => expect(await inPool()).toEqual([1]));
  expect(said.join()).toMatch(/no-folder.*; another process may follow the same sources/);
});
