// Sources against a real service: files that are written to, URLs that flap, commands that hang, other pools.
import { existsSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { eventually } from "../kit/poll.ts";
import {
  ask,
  asked,
  call,
  clock,
  file,
  folder,
  inPool,
  list,
  looked,
  openPool,
  pool,
  read,
  said,
  says,
  setUp,
  siteUrl,
  sources,
  start,
  startWith,
  statusOf,
} from "./setting.ts";

setUp();

test("adds the proxies of a file, and those that are written to it later", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path }, labels: { tier: "gold" } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  const { body } = await call(`GET /v1/pools/${pool}/proxies?label.tier=gold`);
  expect(body.proxies).toHaveLength(3);

  await looked("mine");
  clock.move(60_000);
  file(list(5));
  await eventually(async () => {
    clock.move(1000);
    expect(await inPool()).toEqual([1, 2, 3, 4, 5]);
  });
  const last = { read: 5, added: 2, retired: 0 };
  await eventually(async () => expect(await statusOf("mine")).toMatchObject({ kind: "file", proxies: 5, last }));
});

test("leaves a file alone while it is being written", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  writeFileSync(path, "10.7.0.1:80"); // Part of :8080.
  utimesSync(path, new Date(clock.wall() - 50), new Date(clock.wall() - 50));
  expect((await read("mine")).trouble?.why).toMatch(/is being written$/);
  expect(await inPool()).toEqual([1, 2, 3]);
  expect(said).toEqual([]); // Files are normally changed like this.
});

test("reports a missing file with its name, and reads it once it exists", async () => {
  const path = join(folder, "list.txt");
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () =>
    expect((await statusOf("mine"))?.trouble?.why).toBe(`${path} cannot be read (there is no such file)`),
  );
  file(list(1));
  expect(await read("mine")).toMatchObject({ last: { added: 1 } });
  expect((await statusOf("mine"))?.trouble).toBeUndefined();
});

test("keeps proxies that a source no longer names, unless the source lets them go", async () => {
  await start(
    { name: "keeps", from: { kind: "url", url: `${siteUrl}/keeps` } },
    { name: "drops", from: { kind: "url", url: `${siteUrl}/drops` }, retire: true },
  );
  await eventually(async () => expect((await statusOf("drops"))?.proxies).toBe(4));
  await read("keeps");
  says((request, response) => response.end(request.url === "/keeps" ? list(3) : list(3, 2)));
  await read("keeps");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  // The other source still names 1. `keeps` gave up 4, and this source names it.
  expect(await read("drops")).toMatchObject({ proxies: 3, last: { retired: 0 } });
  says(list(2, 2));
  expect(await read("drops")).toMatchObject({ proxies: 2, last: { retired: 1 } });
  expect(await inPool()).toEqual([1, 2, 3]);
});

test("asks a URL whether it has changed, and changes nothing when it flaps", async () => {
  says((request, response) => {
    if (request.headers["if-none-match"] === '"v1"') return response.writeHead(304).end();
    return response.setHeader("etag", '"v1"').end(list(2));
  });
  await start({
    name: "site",
    from: { kind: "url", url: siteUrl, headers: { authorization: "Bearer s3cret" } },
    retire: true,
  });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  expect(asked[0]?.headers["authorization"]).toBe("Bearer s3cret");
  await eventually(() => {
    clock.move(300_000);
    expect(asked.at(-1)?.headers["if-none-match"]).toBe('"v1"');
  });

  for (const broken of [
    (response: ServerResponse) => response.writeHead(503).end("busy"),
    (response: ServerResponse) =>
      response.writeHead(200, { "content-length": "1000" }).write("10.7.0.9:80", () => response.destroy()),
    (response: ServerResponse) => response.destroy(),
  ]) {
    says((_request, response) => void broken(response));
    expect((await read("site")).trouble?.why).toMatch(/^127\.0\.0\.1:\d+ (answers 503|cannot be read)/);
  }
  expect(await inPool()).toEqual([1, 2]);
  says(list(3));
  expect(await read("site")).toMatchObject({ proxies: 3 });
  expect(JSON.stringify([said, await ask("list")])).not.toMatch(/s3cret|secret@/);
});

test("gives up a URL that does not answer in time", async () => {
  says(() => {});
  await start({ name: "site", from: { kind: "url", url: siteUrl, timeoutMs: 150 } });
  await eventually(async () => expect((await statusOf("site"))?.trouble?.why).toMatch(/did not answer within 150 ms$/));
});

test("accepts a command's list when it ends well, and ends a hanging one with its children", async () => {
  const pids = join(folder, "pid");
  await start(
    { name: "prints", from: { kind: "command", command: ["printf", list(2)] } },
    { name: "fails", from: { kind: "command", command: ["sh", "-c", `printf '${list(1, 50)}'; exit 3`] } },
    {
      name: "hangs",
      from: { kind: "command", command: ["sh", "-c", `sleep 600 & echo $! > ${pids}; wait`], timeoutMs: 300 },
    },
    { name: "missing", from: { kind: "command", command: ["/no/such/program"] } },
  );
  await eventually(async () => {
    expect((await statusOf("fails"))?.trouble?.why).toBe("sh ended with 3");
    expect((await statusOf("hangs"))?.trouble?.why).toBe("sh did not end within 300 ms, and was ended");
    expect((await statusOf("missing"))?.trouble?.why).toBe("/no/such/program cannot be started (ENOENT)");
    expect(await inPool()).toEqual([1, 2]);
  });
  const pid = readFileSync(pids, "utf8").trim();
  await eventually(() =>
    expect(existsSync(`/proc/${pid}`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))).toBe(false),
  );
});

test("reads another pool as a source, with credentials and labels", async () => {
  const other = `${pool}-other`;
  await openPool(other, ["user:p%40ss@10.7.0.1:8080", "socks5://10.7.0.2:1080"]);
  await start({ name: "there", from: { kind: "pool", pool: other } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const [here, there] = await Promise.all(
    [pool, other].map(async (each) => (await call(`GET /v1/pools/${each}/proxies`)).body.proxies),
  );
  expect(here.map(({ id }: { id: string }) => id)).toEqual(there.map(({ id }: { id: string }) => id));
});

test("rejects an error page with the status of a list, however long it stays", async () => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  for (const [page, why] of [
    ["<!DOCTYPE html>\n<p>\nsquid:3128\n", "gives an HTML page, not a list"],
    ["Your subscription has expired.", "gives no list: none of 1 entries can be read"],
    ['{"error": "try later"}', "gives no list: none of 1 entries can be read"],
    ["\u0000\u0001\u0002", "gives no list: none of 1 entries can be read"],
  ] as const) {
    says(page);
    for (let i = 0; i < 3; i++) {
      expect((await read("drops")).trouble?.why).toContain(why);
      clock.move(60_000);
    }
  }
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("reads a page again when a list replaces it, and does not go through the list twice", async () => {
  says("<p>busy</p>");
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(() => expect(said.join()).toContain("gives an HTML page"));
  says(list(2));
  await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + 30_000));
  clock.move(30_000);
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  expect(asked).toHaveLength(2);
});

test("leaves out a password that is not UTF-8, and stores the remainder of the list", async () => {
  const path = file("");
  writeFileSync(path, Buffer.from("user:gr\u00fcn@10.7.0.1:80\nuser:ok@10.7.0.2:80\n", "latin1"));
  utimesSync(path, new Date(clock.wall() - 10_000), new Date(clock.wall() - 10_000));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () =>
    expect((await statusOf("mine"))?.last).toMatchObject({ read: 2, added: 1, rejected: 1 }),
  );
  expect(await inPool()).toEqual([2]);
});

test("does not go through an unchanged list again", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  const { last } = await read("site");
  clock.move(5000);
  expect((await read("site")).last).toEqual(last);
  says(list(4, 2));
  expect((await read("site")).last).toMatchObject({ at: clock.wall(), added: 1 });
});

test("asks a failing source less and less often, and at the usual pace once it recovers", async () => {
  says((_request, response) => response.writeHead(500).end());
  await start({ name: "site", from: { kind: "url", url: siteUrl }, everyMs: 300_000 });
  for (const [round, waitMs] of [30_000, 60_000, 120_000, 240_000, 300_000, 300_000].entries()) {
    await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + waitMs));
    expect(asked).toHaveLength(round + 1);
    clock.move(waitMs);
  }
  says(list(1));
  await read("site");
  expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + 300_000);
  // One line per trouble.
  expect(said.filter((line) => line.includes("answers 500"))).toHaveLength(1);
});

test("offers refused proxies to the pool again soon, without asking the source again", async () => {
  const shut = `${pool}-shut`;
  await start({ name: "site", pool: shut, from: { kind: "url", url: siteUrl } });
  await eventually(() =>
    expect(said.join()).toContain(`the pool ${shut} is not open (npx remuda pool open --pool ${shut})`),
  );
  clock.move(5000);
  await eventually(() => expect(asked).toHaveLength(1));
  await openPool(shut);
  await eventually(async () => {
    clock.move(5000);
    expect(await inPool(shut)).toEqual([1, 2, 3, 4]);
  });
  expect(asked).toHaveLength(1);
  says(list(2));
  await eventually(async () => {
    clock.move(300_000);
    expect(asked.length).toBeGreaterThan(1); // Then at the usual pace.
  });
});

test("puts new proxies on top of the stack, the last of the list first", async () => {
  await call(`PATCH /v1/pools/${pool}`, { policy: { strategy: { kind: "lifo" } } });
  const path = file(list(2));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const leased = async () => (await call(`POST /v1/pools/${pool}/leases`)).body.host;
  expect(await leased()).toBe("10.7.0.2");
  clock.move(60_000);
  file(list(4));
  await read("mine");
  expect([await leased(), await leased(), await leased()]).toEqual(["10.7.0.4", "10.7.0.4", "10.7.0.3"]);
});

test("lets other work run while it goes through a long list, even if nothing in it is new", async () => {
  const long = (count: number) => Array.from({ length: count }, (_, i) => `10.8.${i >> 8}.${i & 255}:80`).join("\n");
  says(long(2000));
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect((await statusOf("site"))?.last).toMatchObject({ read: 2000, added: 2000 }));
  const turns = vi.spyOn(clock, "soon");
  says(`${long(2000)}\n`);
  expect((await read("site")).last).toMatchObject({ read: 2000, added: 0 });
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(8);
  turns.mockClear();
  // Vanished proxies are found, and named ones kept, in pieces too.
  says(long(2001));
  expect((await read("site")).last).toMatchObject({ read: 2001, added: 1 });
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(8 + 2 + 2);
  await sources.stop();
  turns.mockClear();
  // The list is read again at the next start. That start's own first reading has nothing to go through.
  says((_request, response) => response.writeHead(503).end());
  await startWith();
  await eventually(async () => expect(await statusOf("site")).toMatchObject({ proxies: 2001, trouble: {} }));
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(2);
});

test("waits for a site's requested time, except for a manual look", async () => {
  const busy = (status: number, headers: Record<string, string>) =>
    says((_request, response) => response.writeHead(status, headers).end());
  const date = (ms: number) => new Date(Date.now() + ms).toUTCString();
  await start({ name: "site", from: { kind: "url", url: siteUrl }, everyMs: 10_000 });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  for (const [status, headers, waitMs] of [
    [429, { "retry-after": "120" }, 120_000],
    [429, { "retry-after": "999999999" }, 86_400_000],
    // A value that is not a time, or is in the past, has no effect.
    [503, { "retry-after": "soon" }, 10_000],
    [429, { "retry-after": "-5" }, 10_000],
    [503, { "retry-after": date(-9000) }, 10_000],
    // With other statuses it does not set the next time.
    [404, { "retry-after": "120" }, 10_000],
  ] as const) {
    busy(status, headers);
    expect((await read("site")).trouble?.why).toContain(`answers ${status}`);
    await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + waitMs));
  }
  // A date has only whole seconds.
  busy(503, { "retry-after": date(80_000) });
  await read("site");
  await eventually(async () => {
    const waitMs = ((await statusOf("site"))?.nextAt ?? 0) - clock.wall();
    expect(waitMs).toBeGreaterThan(20_000);
    expect(waitMs).toBeLessThanOrEqual(80_000);
  });
  busy(429, { "retry-after": "120" });
  expect((await read("site")).trouble?.why).toMatch(/answers 429, and must not be asked again for 120 s$/);
  says(list(5));
  await looked("site");
  const before = asked.length;
  clock.move(119_999);
  await ask("list");
  expect(asked).toHaveLength(before);
  clock.move(1);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4, 5]));
  await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + 10_000));
});

test("lets other work run while a large pool becomes a list", async () => {
  const other = `${pool}-other`;
  await openPool(
    other,
    Array.from({ length: 2000 }, (_, i) => `10.8.${i >> 8}.${i & 255}:80`),
  );
  const turns = vi.spyOn(clock, "soon");
  await start({ name: "there", from: { kind: "pool", pool: other } });
  await eventually(async () => expect((await statusOf("there"))?.last).toMatchObject({ read: 2000, added: 2000 }));
  // Turned into a list, read, and kept.
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(2 + 8 + 2);
});
