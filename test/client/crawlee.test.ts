// Crawlee's HttpCrawler through leased proxies, with real proxies and a real target.
import {
  Configuration,
  HttpCrawler,
  type HttpCrawlingContext,
  log,
  type ProxyConfiguration,
  SessionError,
} from "@crawlee/http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { deadPort, type LabProxy, type Play, startLabProxy, startTarget, type Target } from "./lab.ts";
import { standIn } from "./stand-in.ts";

let target: Target;
let proxy: LabProxy;

beforeAll(async () => {
  log.setLevel(log.LEVELS.OFF);
  [target, proxy] = [await startTarget({ secure: false }), await startLabProxy()];
});
afterAll(() => Promise.all([target, proxy].map((each) => each?.stop())));

const answer =
  (status: string, more = ""): Play =>
  (socket) =>
    void socket.write(`HTTP/1.1 ${status}\r\ncontent-type: text/html\r\n${more}content-length: 3\r\n\r\nok\n`);
const quick = { maxRequestRetries: 1, sameDomainDelaySecs: 0, sessionPoolOptions: { maxPoolSize: 1 } };
/** Nothing is written to a folder. */
const configuration = () => new Configuration({ persistStorage: false });
const open = (...proxies: string[]) =>
  standIn(proxies.length > 0 ? proxies : [`http://127.0.0.1:${proxy.port}`], { uses: 10 });
const openFor = (leaseMs: number) => standIn([`http://127.0.0.1:${proxy.port}`], { uses: 10, leaseMs });

test("reports each try of a request, by its status and by the session that its handler marks", async () => {
  const { client, outcomes, asked } = open();
  for (const path of ["/crawl/end", "/crawl/captcha", "/crawl/retired"]) target.plays.set(path, answer("200 OK"));
  target.plays.set("/crawl/busy", (socket, told) =>
    answer(told.nth === 0 ? "503 Busy" : "200 OK", "retry-after: 7\r\n")(socket, told),
  );
  target.plays.set("/crawl/blocked", answer("403 No"));
  const seen: string[] = [];
  const options = client.crawlee({
    ...quick,
    maxConcurrency: 1,
    requestHandler: ({ request, session, proxyInfo, body }) => {
      const { pathname } = new URL(request.url);
      seen.push(`${pathname} ${proxyInfo.url} ${String(body).trim()}`);
      if (pathname === "/crawl/captcha" && request.retryCount === 0) throw new SessionError("a captcha");
      if (pathname === "/crawl/retired") session.markBad();
    },
  });
  const crawler = new HttpCrawler(options, configuration());
  await crawler.run(["end", "busy", "captcha", "retired", "blocked"].map((path) => `${target.url}/crawl/${path}`));
  await client.close();
  expect(seen.map((each) => each.split(" ")[0])).toEqual(
    expect.arrayContaining(["/crawl/end", "/crawl/busy", "/crawl/captcha", "/crawl/retired"]),
  );
  expect(seen[0]).toBe(`/crawl/end http://127.0.0.1:${proxy.port} ok`);
  const told = outcomes.map((each) => `${each.status} ${each.class}`).sort();
  expect(told).toEqual([
    "200 blocked", // The captcha,
    "200 blocked", // and the page whose session the handler has marked.
    "200 success",
    "200 success",
    "200 success",
    "403 blocked",
    "403 blocked",
    "503 target-error",
  ]);
  expect(outcomes.find(({ status }) => status === 503)).toMatchObject({ retryAfterMs: 7000, final: true, n: 1 });
  expect(asked.every(({ session }) => typeof session === "string")).toBe(true);
});

test("counts each redirect as a use, and follows none unless the option says so", async () => {
  target.plays.set("/crawl/hop", answer("302 Found", "location: /crawl/there\r\n"));
  target.plays.set("/crawl/there", answer("200 OK"));
  const statuses: (number | undefined)[] = [];
  for (const via of [{}, { redirects: 2, sessions: false }]) {
    const { client, outcomes, asked } = open();
    const requestHandler = ({ response }: HttpCrawlingContext) => void statuses.push(response.statusCode);
    await new HttpCrawler(client.crawlee({ ...quick, requestHandler }, via), configuration()).run([
      `${target.url}/crawl/hop`,
    ]);
    await client.close();
    const uses =
      via.redirects === undefined
        ? [[1, 302, true]]
        : [
            [1, undefined, undefined],
            [2, 200, true],
          ];
    expect(outcomes.map(({ n, status, final }) => [n, status, final])).toEqual(uses);
    expect(asked[0]?.["uses"]).toBe(1 + (via.redirects ?? 0));
  }
  expect(statuses).toEqual([302, 200]);
});

test("reports the code of a failure on the way, and a try that the caller's hook ended before as no use", async () => {
  const dead = open(`http://127.0.0.1:${await deadPort()}`);
  const none = { ...quick, maxRequestRetries: 0, requestHandler: () => {} };
  const failing = { ...none, maxSessionRotations: 0 };
  await new HttpCrawler(dead.client.crawlee(failing), configuration()).run([`${target.url}/crawl/end`]);
  await dead.client.close();
  expect(dead.outcomes.map((each) => [each.error, each.class])).toEqual([["ECONNREFUSED", "unreachable"]]);

  const { client, outcomes, released } = open();
  const preNavigationHooks = [() => Promise.reject(new Error("not today"))];
  await new HttpCrawler(client.crawlee({ ...none, preNavigationHooks }), configuration()).run([
    `${target.url}/crawl/no`,
  ]);
  await client.close();
  expect([outcomes, released]).toEqual([[], [{ leaseId: expect.any(String), used: 0 }]]);
});

test("follows no redirect after the lease's end", async () => {
  target.arrived.length = 0;
  target.plays.set("/crawl/slow-hop", (socket, told) => {
    setTimeout(() => answer("302 Found", "location: /crawl/slow-hop\r\n")(socket, told), 250);
  });
  const { client, outcomes } = openFor(600);
  const options = { ...quick, maxRequestRetries: 0, requestHandler: () => {} };
  await new HttpCrawler(client.crawlee(options, { redirects: 9 }), configuration()).run([
    `${target.url}/crawl/slow-hop`,
  ]);
  await client.close();
  expect(outcomes.length).toBeLessThan(4);
  expect(target.arrived.length).toBeLessThanOrEqual(outcomes.length);
});

test("does not count the end of the lease against a proxy that had less than half of it", async () => {
  target.plays.set("/crawl/hang", () => {});
  const { client, outcomes } = openFor(2000);
  const preNavigationHooks = [() => new Promise<void>((resolve) => setTimeout(resolve, 1100))];
  const options = { ...quick, maxRequestRetries: 0, preNavigationHooks, requestHandler: () => {} };
  await new HttpCrawler(client.crawlee(options), configuration()).run([`${target.url}/crawl/hang`]);
  await client.close();
  expect(outcomes.map((each) => each.class)).toEqual(["client-abort"]);
});

test("counts a wait that exceeds Crawlee's own time limit as a timeout", async () => {
  target.plays.set("/crawl/hang", () => {});
  const { client, outcomes } = open();
  const options = { ...quick, maxRequestRetries: 0, navigationTimeoutSecs: 0.5, requestHandler: () => {} };
  await new HttpCrawler(client.crawlee(options), configuration()).run([`${target.url}/crawl/hang`]);
  await client.close();
  expect(outcomes.map((each) => each.class)).toEqual(["timeout"]);
});

test("a page counts as blocked by the marks of its own handler, not by those of others with its session", async () => {
  for (const path of ["/crawl/good", "/crawl/bad"]) target.plays.set(path, answer("200 OK"));
  const { client, outcomes } = open();
  let marked = (): void => {};
  const isMarked = new Promise<void>((resolve) => {
    marked = resolve;
  });
  const options = client.crawlee({
    ...quick,
    minConcurrency: 2,
    requestHandler: async ({ request, session }: HttpCrawlingContext) => {
      if (request.url.endsWith("good")) return isMarked;
      session?.markBad();
      marked();
    },
  });
  await new HttpCrawler(options, configuration()).run([`${target.url}/crawl/good`, `${target.url}/crawl/bad`]);
  await client.close();
  expect(outcomes.map((each) => each.class).sort()).toEqual(["blocked", "success"]);
});

test("is a proxy configuration for Crawlee, and names wrong options", async () => {
  const { client } = open();
  const { proxyConfiguration } = client.crawlee({ requestHandler: () => {} });
  const { newProxyInfo, newUrl } = proxyConfiguration as ProxyConfiguration;
  const request = { url: target.url } as never;
  expect(await newProxyInfo("a", { request })).toMatchObject({ sessionId: "a", hostname: "127.0.0.1", password: "" });
  await expect(newUrl("a")).rejects.toMatchObject({ code: "wrong-options" });
  expect(() => client.crawlee({} as never)).toThrow("requestHandler: is missing");
  expect(() => client.crawlee({ requestHandler: () => {} }, { redirects: 21 })).toThrow("redirects: must be");
  expect(() => client.crawlee({ requestHandler: () => {}, httpClient: {} })).toThrow("httpClient: only Crawlee's own");
  await client.close();
});
