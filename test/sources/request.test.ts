// Sources that are set by request and in the file. The file is the only truth for both.
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
  setUp,
  siteUrl,
  sources,
  start,
  startWith,
  statusOf,
} from "./setting.ts";

setUp();

test("sets, lists and removes sources by request, with the file as the truth", async () => {
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
    [{ name: "x", from, refill: { leasableMin: 1, webhook: "http://169.254.169.254/" } }, "refill.webhook"],
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

test("rejects a header that cannot be sent, names its place, and hides its value", async () => {
  await start();
  const put = (headers: object) => ask("put", { name: "x", from: { kind: "url", url: siteUrl, headers } });
  for (const [headers, field, message] of [
    [{ "Authorization: Bearer s3cret": "" }, "from.headers", "has a name that is not a header name"],
    [{ "Authorization: Bearer s3cret": 5 }, "from.headers", "has a name that is not a header name"],
    [{ "": "s3cret" }, "from.headers", "has a name that is not a header name"],
    [{ "Content-Length": "5" }, "from.headers", "has content-length, which the HTTP client sets itself"],
    [{ "x-key": "s3cret\n" }, "from.headers.x-key", "must be one line of Latin-1 characters"],
    [{ "x-key": "s3cr€t" }, "from.headers.x-key", "must be one line of Latin-1 characters"],
  ] as const) {
    const refusal = await put(headers);
    expect(refusal, field).toMatchObject({ code: "invalid-request", field, message: expect.stringContaining(message) });
    expect(JSON.stringify(refusal)).not.toMatch(/s3cr/);
  }
  expect(await put({ "X-Key": "grün" })).toMatchObject({ name: "x" });
});

test("bounds the size of a source, and how many sources a pool may have", async () => {
  configure(...Array.from({ length: 99 }, (_, i) => ({ name: `s${i}`, from: { kind: "url", url: siteUrl } })));
  await startWith();
  const from = { kind: "url", url: siteUrl };
  const headers = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`x-${i}`, "x".repeat(4000)]));
  expect(await ask("put", { name: "large", from: { ...from, headers } })).toMatchObject({
    code: "invalid-request",
    field: "from",
    message: expect.stringContaining("32768 characters"),
  });
  expect(await ask("put", { name: "last", from })).toMatchObject({ name: "last" });
  expect(await ask("put", { name: "beyond", from })).toMatchObject({
    code: "invalid-request",
    field: "name",
    message: expect.stringContaining("at most 100 sources of a pool"),
  });
  expect(await ask("put", { name: "last", from, retire: true })).toMatchObject({ name: "last", retire: true });
});

test("reports the place of a mistake in the file, and hides the content there", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  for (const [text, why] of [
    ['{"sources": [\n  {"name": "s3cret",}\n]}', "it is not JSON, from line 2 on (expected"],
    ['{"sources": [{"name": s3cret}]}', "it is not JSON (expected"],
    ["[]", "it has another form (expected"],
    ['"s3cret"', "it has another form (expected"],
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

test("follows a change of the file, and changes nothing after a mistake in it", async () => {
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

test("keeps a fresh manual edit of the file when a request comes", async () => {
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

test("refuses when the file cannot be written or inspected, and goes on", async () => {
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

test("rejects a pool that is its own source, or the source of a pool that feeds it", async () => {
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

test("refuses a request that is too large or not JSON like the other services", async () => {
  await startWith();
  expect(await ask("list", { pad: "x".repeat(513 * 1024) })).toMatchObject({ code: "too-large" });
  for (const body of ["{", new Uint8Array([0x22, 0xff, 0x22])]) {
    const reply = await bus.nc.request(`remuda.sources.list.${pool}`, body, { timeout: 20_000 });
    expect(reply.headers?.get("Nats-Service-Error-Code")).toBe("400");
    expect(reply.json()).toMatchObject({ code: "invalid-request", message: expect.stringContaining("not JSON") });
  }
});

test("sends an answer only to an inbox", async () => {
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

test("starts everything else when the file is wrong at the start, and follows it once it is fixed", async () => {
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

test("lets one of two processes on a data directory be active, and hands its records to the other", async () => {
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

test("ends a waiting process at once, and keeps the place of the one after it", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  const first = sources;
  await startWith();
  await sources.stop();
  await first.stop();
  await startWith();
  expect(await statusOf("site")).toBeDefined();
});

test("follows the sources without a lock where locking is impossible, and reports that", async () => {
  const place = join(folder, "no-folder");
  writeFileSync(place, "");
  configure({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  await startWith({ seen: place });
  await eventually(async () => expect(await inPool()).toEqual([1]));
  expect(said.join()).toMatch(/no-folder.*; another process may follow the same sources/);
});
