// A pool below its floor: its sources are asked at once, and a webhook is called, neither too often.
import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import {
  ask,
  asked,
  clock,
  inPool,
  list,
  looked,
  pool,
  said,
  says,
  setUp,
  siteUrl,
  start,
  statusOf,
} from "./setting.ts";

setUp();

test("asks the source and calls the webhook of a low pool at once, but not repeatedly", async () => {
  const called: string[] = [];
  says((request, response) => {
    if (request.url !== "/hook") return response.end(list(2));
    request.on("data", (chunk) => called.push(String(chunk))).on("end", () => response.end());
  });
  const refill = { leasableMin: 3, everyMsMin: 30_000, webhook: `${siteUrl}/hook` };
  await start({ name: "site", everyMs: 86_400_000, from: { kind: "url", url: `${siteUrl}/list` }, refill });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const lists = () => asked.filter(({ url }) => url === "/list").length;
  expect(lists()).toBe(1);
  await looked("site");
  clock.move(2000);
  await eventually(() => expect([lists(), called.length]).toEqual([2, 1]));
  expect(JSON.parse(called[0] ?? "")).toEqual({ pool, source: "site", leasable: 2, leasableMin: 3 });
  for (let i = 0; i < 10; i++) {
    clock.move(2000);
    await ask("list"); // A round trip. All requests caused by the move have been sent.
  }
  expect([lists(), called.length]).toEqual([2, 1]);
  says((request, response) => response.end(request.url === "/list" ? list(4) : ""));
  await eventually(async () => {
    clock.move(2000);
    expect(await inPool()).toEqual([1, 2, 3, 4]);
  });
});

const site = (refill: object) => ({
  name: "site",
  everyMs: 86_400_000,
  from: { kind: "url", url: `${siteUrl}/list` },
  refill: { leasableMin: 3, ...refill },
});
const hooks = () => asked.filter(({ url }) => url?.startsWith("/hook"));

test("calls a busy webhook three times at most, and hides its secrets", async () => {
  says((request, response) => response.writeHead(request.url === "/list" ? 200 : 503).end(list(1)));
  const webhook = `${siteUrl.replace("//", "//user:s3cret@")}/hook?key=s3cret`;
  await start(site({ webhook, everyMsMin: 86_400_000 }));
  await eventually(() => {
    clock.move(1000);
    expect(hooks()).toHaveLength(3);
  });
  await eventually(() => expect(said.join()).toMatch(/the webhook at 127\.0\.0\.1:\d+ answers 503/));
  clock.move(10_000);
  await ask("list");
  expect(hooks()).toHaveLength(3);
  expect(hooks()[0]?.headers.authorization).toBe(`Basic ${Buffer.from("user:s3cret").toString("base64")}`);
  expect(said.join()).not.toContain("s3cret");
});

test("does not call a refusing webhook again, and follows none of its redirects", async () => {
  says((request: IncomingMessage, response) => {
    if (request.url === "/list") return response.end(list(1));
    if (request.url === "/hook") return response.writeHead(307, { location: "/hook-elsewhere" }).end();
    return response.end();
  });
  await start(site({ webhook: `${siteUrl}/hook` }));
  await looked("site");
  clock.move(2000);
  await eventually(() => expect(said.join()).toMatch(/the webhook at \S+ answers 307/));
  clock.move(20_000);
  await ask("list");
  expect(hooks().map(({ url }) => url)).toEqual(["/hook"]);
});

test("calls no webhook at an address that is not public, and says so", async () => {
  says(list(1));
  await start(site({ webhook: "http://169.254.169.254/hook?key=s3cret" }));
  await looked("site");
  clock.move(2000);
  await eventually(() => expect(said.join()).toMatch(/169\.254\.169\.254 is not a public address.*OUTBOUND_ALLOW/));
  expect(said.join()).not.toContain("s3cret");
});

test("does not ask a source again, nor reports the pool as low to it, until it has answered", async () => {
  let release = (): void => {};
  says((request, response) => {
    if (request.url === "/list") release = () => void response.end(list(1));
    else response.end();
  });
  await start(site({ webhook: `${siteUrl}/hook` }));
  await eventually(() => expect(asked).toHaveLength(1));
  for (let i = 0; i < 5; i++) {
    clock.move(2000);
    await ask("list");
  }
  release();
  await eventually(async () => expect(await inPool()).toEqual([1]));
  expect(asked.map(({ url }) => url)).toEqual(["/list"]);
  await eventually(() => {
    clock.move(2000);
    expect(asked.map(({ url }) => url).toSorted()).toEqual(["/hook", "/list", "/list"]);
  });
  release();
});

test("waits for a source's requested time however low its pool is, but calls the webhook", async () => {
  says((request, response) => {
    if (request.url === "/hook") return response.end();
    response.writeHead(429, { "retry-after": "3600" }).end();
  });
  await start(site({ webhook: `${siteUrl}/hook`, everyMsMin: 1000 }));
  const lists = () => asked.filter(({ url }) => url === "/list");
  await eventually(async () => expect((await statusOf("site"))?.nextAt).toBe(clock.wall() + 3_600_000));
  await eventually(() => {
    clock.move(2000);
    expect(hooks().length).toBeGreaterThanOrEqual(5);
  });
  expect(lists()).toHaveLength(1);
  says(list(3));
  clock.move(3_590_000);
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
});

test("asks the source of a low pool conditionally, not for the whole list", async () => {
  says((request, response) => {
    if (request.headers["if-none-match"] === '"v1"') return response.writeHead(304).end();
    return response.setHeader("etag", '"v1"').end(list(2));
  });
  await start(site({ everyMsMin: 1000 }));
  await looked("site");
  await eventually(() => {
    clock.move(2000);
    expect(asked.length).toBeGreaterThan(1);
  });
  expect(asked[1]?.headers["if-none-match"]).toBe('"v1"');
});

test("does not treat a pool exactly at its floor as below it", async () => {
  says(list(3));
  await start(site({ webhook: `${siteUrl}/hook` }));
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  for (let i = 0; i < 5; i++) {
    clock.move(2000);
    await ask("list");
  }
  expect(asked.map(({ url }) => url)).toEqual(["/list"]);
});

test("does not treat a closed pool as low", async () => {
  await start({ ...site({}), pool: `${pool}-shut` });
  await eventually(() => expect(asked).toHaveLength(1));
  for (let i = 0; i < 5; i++) {
    clock.move(2000);
    await ask("list");
  }
  expect(asked).toHaveLength(1);
});
