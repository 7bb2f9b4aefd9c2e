// Proxies that a source no longer names, and entries that it has named before: over doubts, restarts and manual
// retirements.
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { goneOf } from "../../services/sources/doubt.ts";
import { eventually } from "../kit/poll.ts";
import {
  call,
  clock,
  configure,
  file,
  folder,
  inPool,
  list,
  openPool,
  pool,
  read,
  retire,
  says,
  setUp,
  siteUrl,
  sources,
  start,
  startWith,
  statusOf,
} from "./setting.ts";

setUp();

test("believes a list with exactly half at once, and doubts one with fewer for exactly a minute", () => {
  const known = ["a", "b", "c", "d"];
  const gone = (named: string[], given: { at: number; doubtedSince?: number }) => {
    const vanished = known.filter((id) => !named.includes(id));
    return goneOf(vanished, { known: 4, unsure: new Set(), doubtedSince: undefined, ...given });
  };
  expect(gone(["a", "b"], { at: 5 })).toEqual({ gone: ["c", "d"] });
  expect(gone(["a"], { at: 5 })).toEqual({ gone: [], doubtedSince: 5 });
  expect(gone([], { at: 60_004, doubtedSince: 5 })).toEqual({ gone: [], doubtedSince: 5 });
  expect(gone([], { at: 60_005, doubtedSince: 5 })).toEqual({ gone: ["a", "b", "c", "d"] });
  // The same number of proxies, but all different: less than half of the known ones are among them.
  expect(gone(["e", "f", "g", "h"], { at: 5 })).toEqual({ gone: [], doubtedSince: 5 });
  expect(gone(["a", "b", "c", "d", "e"], { at: 5, doubtedSince: 1 })).toEqual({ gone: [] });
  const never = { known: 0, unsure: new Set<string>(), at: 5, doubtedSince: undefined };
  expect(goneOf([], never)).toEqual({ gone: [] });
});

test.each([
  ["empty", ""],
  ["less than half", list(1)],
])("retires nothing when a list suddenly reads %s until it says so again a minute later", async (_what, text) => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  says(text);
  const doubted = await read("drops");
  expect(doubted.doubtedUntil).toBe(clock.wall() + 60_000);
  clock.move(30_000);
  await read("drops");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  clock.move(30_000);
  await read("drops");
  expect(await inPool()).toEqual(text === "" ? [] : [1]);
});

test("retires nothing when a list is short for a moment, and ends the doubt", async () => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  says("");
  await read("drops");
  says(list(4));
  clock.move(30_000);
  expect(await read("drops")).not.toHaveProperty("doubtedUntil");
  says("");
  clock.move(40_000);
  await read("drops");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("does not add a manually retired proxy again with the next look or a restart", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  await retire(1);
  await read("mine");
  await sources.stop();
  await startWith();
  file(list(4));
  await eventually(async () => {
    await read("mine");
    expect(await inPool()).toEqual([2, 3, 4]);
  });
});

test("keeps a proxy manually retired when a list that was empty for a moment is whole again", async () => {
  await start({ name: "keeps", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  await retire(2);
  says("");
  await read("keeps");
  says(list(4));
  expect(await read("keeps")).toMatchObject({ last: { added: 0, updated: 0 } });
  expect(await inPool()).toEqual([1, 3, 4]);
});

test("keeps a proxy manually retired when its details change, in the list or in the source's own labels", async () => {
  const told = (countries: string[]) =>
    says(countries.map((country, i) => `{"host": "10.7.0.${i + 1}", "port": 80, "country": "${country}"}`).join("\n"));
  const source = { name: "keeps", from: { kind: "url", url: siteUrl }, labels: { tier: "gold" } };
  const labels = async () => {
    const { body } = await call(`GET /v1/pools/${pool}/proxies`);
    const all = body.proxies as { host: string; state: string; labels: object }[];
    return Object.fromEntries(
      all.map(({ host, state, labels: of }) => [host.at(-1), state === "retired" ? state : of]),
    );
  };
  told(["US", "US", "US"]);
  await start(source);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  await retire(2);
  told(["US", "DE", "DE"]);
  expect(await read("keeps")).toMatchObject({ proxies: 3, last: { read: 3, added: 0, updated: 1 } });
  expect(await labels()).toMatchObject({ 1: { country: "US" }, 2: "retired", 3: { country: "DE" } });
  // Nothing is new: that was the last addition.
  expect(await read("keeps")).toMatchObject({ last: { added: 0, updated: 1 } });

  configure({ ...source, labels: { tier: "silver" } });
  await eventually(async () => {
    clock.move(2000);
    expect(await labels()).toMatchObject({ 1: { tier: "silver" }, 2: "retired", 3: { tier: "silver" } });
  });
  // A proxy that has gone and comes back counts as new.
  told(["US"]);
  await read("keeps");
  clock.move(60_000);
  await read("keeps");
  told(["US", "DE"]);
  expect(await read("keeps")).toMatchObject({ last: { added: 1 } });
  expect(await inPool()).toEqual([1, 2, 3]);
});

test("does not keep a doubt over a restart: the list must say so twice again", async () => {
  const source = { name: "drops", from: { kind: "url", url: siteUrl }, retire: true };
  await start(source);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  says("");
  await read("drops");
  await sources.stop();
  clock.move(120_000);
  await startWith();
  await eventually(async () => expect((await statusOf("drops"))?.doubtedUntil).toBe(clock.wall() + 60_000));
  clock.move(59_999);
  await read("drops");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  // The follower asks for the second reading by itself.
  clock.move(60_000);
  await eventually(async () => expect(await inPool()).toEqual([]));
});

test("asks for the whole list again when the doubt is over, even if the list has not changed since", async () => {
  const says304 = (text: string, tag: string) =>
    says((request, response) => {
      if (request.headers["if-none-match"] === tag) return response.writeHead(304).end();
      return response.setHeader("etag", tag).end(text);
    });
  says304(list(4), '"v1"');
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  says304("", '"v2"');
  await read("drops");
  await eventually(async () => expect((await statusOf("drops"))?.nextAt).toBe(clock.wall() + 60_000));
  clock.move(60_000);
  await eventually(async () => expect(await inPool()).toEqual([]));
});

test("looks at a file that was cut short for a moment within a second, not after the doubt", async () => {
  await start({ name: "mine", from: { kind: "file", path: file(list(4)) }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  clock.move(60_000);
  file("");
  expect(await read("mine")).toHaveProperty("doubtedUntil");
  await eventually(async () => expect((await statusOf("mine"))?.nextAt).toBe(clock.wall() + 1000));
  clock.move(1000); // Nothing is new.
  await eventually(async () => expect((await statusOf("mine"))?.nextAt).toBe(clock.wall() + 1000));
  file(list(5));
  clock.move(1000);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4, 5]));
  expect(await statusOf("mine")).not.toHaveProperty("doubtedUntil");
});

test("keeps proxies of the list in the pool when their source is removed from the file", async () => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  configure();
  await eventually(async () => {
    clock.move(2000);
    expect(await statusOf("drops")).toBeUndefined();
  });
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("reports when named entries cannot be stored, adds the proxies, and goes on", async () => {
  const place = join(folder, "no-folder");
  writeFileSync(place, "");
  configure({ name: "keeps", from: { kind: "url", url: siteUrl } });
  await startWith({ seen: place });
  await eventually(async () =>
    expect((await statusOf("keeps"))?.trouble?.why).toMatch(/keeps\.seen cannot be written/),
  );
  await retire(2);
  await read("keeps");
  expect(await inPool()).toEqual([1, 3, 4]);
});

test("doubts a list of only other proxies for the whole minute, over repeated reads and a restart", async () => {
  const source = { name: "drops", from: { kind: "url", url: siteUrl }, retire: true };
  await start(source);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  says(list(4, 11));
  expect(await read("drops")).toMatchObject({ doubtedUntil: clock.wall() + 60_000, proxies: 8 });
  for (let i = 0; i < 3; i++) {
    clock.move(19_999);
    expect(await read("drops")).toMatchObject({ last: { retired: 0 } });
  }
  expect(await inPool()).toEqual([1, 2, 3, 4, 11, 12, 13, 14]);
  await sources.stop();
  await startWith();
  const again = { doubtedUntil: clock.wall() + 60_000, nextAt: clock.wall() + 60_000 };
  await eventually(async () => expect(await statusOf("drops")).toMatchObject(again));
  // One of the new proxies is gone too when the list is believed.
  says(list(3, 11));
  clock.move(60_000);
  await eventually(async () => expect(await inPool()).toEqual([11, 12, 13]));
  await eventually(async () => expect(await statusOf("drops")).toMatchObject({ proxies: 3, last: { retired: 5 } }));
});

test("gives the whole list to a different pool of the same name", async () => {
  const source = { name: "site", from: { kind: "url", url: siteUrl } };
  await start(source);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  await sources.stop();
  // The source has named its entries to the pool of another NATS.
  const other = `${pool}-other`;
  await openPool(other);
  cpSync(join(folder, "seen", pool), join(folder, "seen", other), { recursive: true });
  configure({ ...source, pool: other });
  await startWith();
  await eventually(async () => expect(await inPool(other)).toEqual([1, 2, 3, 4]));
});

test("keeps proxies manually retired when their pool is closed and opened again", async () => {
  await start({ name: "site", from: { kind: "url", url: siteUrl } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  await retire(2);
  await call(`DELETE /v1/pools/${pool}`);
  await openPool(pool);
  says(list(5));
  expect(await read("site")).toMatchObject({ proxies: 5, last: { read: 5, added: 1 } });
  expect(await inPool()).toEqual([1, 3, 4, 5]);
});
