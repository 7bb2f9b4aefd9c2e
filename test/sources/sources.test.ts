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
  siteUrl,
  sources,
  start,
  startWith,
  statusOf,
} from "./setting.ts";

test("a file's proxies are added, and what is written to it later, too", async () => {
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

test("a file that is being written is left until it is whole", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  writeFileSync(path, "10.7.0.1:80"); // of :8080
  utimesSync(path, new Date(clock.wall() - 50), new Date(clock.wall() - 50));
  expect((await read("mine")).trouble?.why).toMatch(/is being written$/);
  expect(await inPool()).toEqual([1, 2, 3]);
  expect(said).toEqual([]); // It is how files are changed.
});

test("a file that is not there is a trouble with its name, and is read once it is", async () => {
  const path = join(folder, "list.txt");
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () =>
    expect((await statusOf("mine"))?.trouble?.why).toBe(`${path} cannot be read (there is no such file)`),
  );
  file(list(1));
  expect(await read("mine")).toMatchObject({ last: { added: 1 } });
  expect((await statusOf("mine"))?.trouble).toBeUndefined();
});

test("what a source no longer names stays, unless the source says that it may go", async () => {
  await start(
    { name: "keeps", from: { kind: "url", url: `${siteUrl}/keeps` } },
    { name: "drops", from: { kind: "url", url: `${siteUrl}/drops` }, retire: true },
  );
  await eventually(async () => expect((await statusOf("drops"))?.proxies).toBe(4));
  await read("keeps");
  says((request, response) => response.end(request.url === "/keeps" ? list(3) : list(3, 2)));
  await read("keeps");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  // 1 is named by the other still; 4 was given up by `keeps`, and is named by this one.
  expect(await read("drops")).toMatchObject({ proxies: 3, last: { retired: 0 } });
  says(list(2, 2));
  expect(await read("drops")).toMatchObject({ proxies: 2, last: { retired: 1 } });
  expect(await inPool()).toEqual([1, 2, 3]);
});

test("a URL is asked whether it has changed, and one that flaps changes nothing", async () => {
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

test("a URL that does not answer in time is given up", async () => {
  says(() => {});
  await start({ name: "site", from: { kind: "url", url: siteUrl, timeoutMs: 150 } });
  await eventually(async () => expect((await statusOf("site"))?.trouble?.why).toMatch(/did not answer within 150 ms$/));
});

test("a command's list counts when it ends well, and one that hangs is ended with its children", async () => {
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

test("another pool is a source, credentials and labels included", async () => {
  const other = `${pool}-other`;
  await openPool(other, ["user:p%40ss@10.7.0.1:8080", "socks5://10.7.0.2:1080"]);
  await start({ name: "there", from: { kind: "pool", pool: other } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const [here, there] = await Promise.all(
    [pool, other].map(async (each) => (await call(`GET /v1/pools/${each}/proxies`)).body.proxies),
  );
  expect(here.map(({ id }: { id: string }) => id)).toEqual(there.map(({ id }: { id: string }) => id));
});

test("an error page with the status of a list is none, however long it stays", async () => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  for (const [page, why] of [
    ["<!DOCTYPE html>\n<p>\nsquid:3128\n", "gives a page, and no list"],
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

test("a page that gives way to the list is read anew, and not gone through once more", async () => {
  says("<p>busy</p>");
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(() => expect(said.join()).toContain("gives a page"));
  says(list(2));
  await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + 30_000));
  clock.move(30_000);
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  expect(asked).toHaveLength(2);
});

test("what is no UTF-8 in a password is not stored, and the rest of the list is", async () => {
  const path = file("");
  writeFileSync(path, Buffer.from("user:gr\u00fcn@10.7.0.1:80\nuser:ok@10.7.0.2:80\n", "latin1"));
  utimesSync(path, new Date(clock.wall() - 10_000), new Date(clock.wall() - 10_000));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () =>
    expect((await statusOf("mine"))?.last).toMatchObject({ read: 2, added: 1, rejected: 1 }),
  );
  expect(await inPool()).toEqual([2]);
});

test("a list that says the same as before is not gone through again", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  const { last } = await read("site");
  clock.move(5000);
  expect((await read("site")).last).toEqual(last);
  says(list(4, 2));
  expect((await read("site")).last).toMatchObject({ at: clock.wall(), added: 1 });
});

test("a source that fails is asked again, less and less often, and as ever once it is well", async () => {
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
  // Of one trouble one line.
  expect(said.filter((line) => line.includes("answers 500"))).toHaveLength(1);
});

test("what a pool does not take is offered again soon, and its source is not asked for it once more", async () => {
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
    expect(asked.length).toBeGreaterThan(1); // Then as ever.
  });
});

test("new proxies lie on top of the stack, the last of the list first", async () => {
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

test("a long list lets others have their turn while it is gone through, also where nothing in it is new", async () => {
  const long = (count: number) => Array.from({ length: count }, (_, i) => `10.8.${i >> 8}.${i & 255}:80`).join("\n");
  says(long(2000));
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect((await statusOf("site"))?.last).toMatchObject({ read: 2000, added: 2000 }));
  const turns = vi.spyOn(clock, "soon");
  says(`${long(2000)}\n`);
  expect((await read("site")).last).toMatchObject({ read: 2000, added: 0 });
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(8);
  turns.mockClear();
  // Who is gone is found, and what it names is kept, in pieces as well.
  says(long(2001));
  expect((await read("site")).last).toMatchObject({ read: 2001, added: 1 });
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(8 + 2 + 2);
  await sources.stop();
  turns.mockClear();
  // And read again with the next start; its own first reading has nothing to go through.
  says((_request, response) => response.writeHead(503).end());
  await startWith();
  await eventually(async () => expect(await statusOf("site")).toMatchObject({ proxies: 2001, trouble: {} }));
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(2);
});

test("a site that says when to come again is not asked before, but by who asks for it by hand", async () => {
  const busy = (status: number, headers: Record<string, string>) =>
    says((_request, response) => response.writeHead(status, headers).end());
  const date = (ms: number) => new Date(Date.now() + ms).toUTCString();
  await start({ name: "site", from: { kind: "url", url: siteUrl }, everyMs: 10_000 });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  for (const [status, headers, waitMs] of [
    [429, { "retry-after": "120" }, 120_000],
    [429, { "retry-after": "999999999" }, 86_400_000],
    // Of what is no time, or over already, nothing follows.
    [503, { "retry-after": "soon" }, 10_000],
    [429, { "retry-after": "-5" }, 10_000],
    [503, { "retry-after": date(-9000) }, 10_000],
    // Others do not say when to come again with it.
    [404, { "retry-after": "120" }, 10_000],
  ] as const) {
    busy(status, headers);
    expect((await read("site")).trouble?.why).toContain(`answers ${status}`);
    await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + waitMs));
  }
  // A date has no more than seconds.
  busy(503, { "retry-after": date(80_000) });
  await read("site");
  await eventually(async () => {
    const waitMs = ((await statusOf("site"))?.nextAt ?? 0) - clock.wall();
    expect(waitMs).toBeGreaterThan(20_000);
    expect(waitMs).toBeLessThanOrEqual(80_000);
  });
  busy(429, { "retry-after": "120" });
  expect((await read("site")).trouble?.why).toMatch(/answers 429, and is not to be asked for 120 s$/);
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

test("a large pool that is a source lets others have their turn while it becomes a list", async () => {
  const other = `${pool}-other`;
  await openPool(
    other,
    Array.from({ length: 2000 }, (_, i) => `10.8.${i >> 8}.${i & 255}:80`),
  );
  const turns = vi.spyOn(clock, "soon");
  await start({ name: "there", from: { kind: "pool", pool: other } });
  await eventually(async () => expect((await statusOf("there"))?.last).toMatchObject({ read: 2000, added: 2000 }));
  // Made a list, read, and kept.
  expect(turns.mock.calls.length).toBeGreaterThanOrEqual(2 + 8 + 2);
});
