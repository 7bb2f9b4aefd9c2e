import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { connect as dial } from "node:net";
import fc from "fast-check";
import { fetch, ProxyAgent } from "undici";
import { describe, expect, onTestFinished, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "./forward-proxy.ts";
import { startGuestSite } from "./guest-site.ts";
import { eventually } from "./poll.ts";
import { maxInAnyWindow, startTarget, type Target } from "./target.ts";

describe("the target and the forward proxies", () => {
  async function started(options: Parameters<typeof startForwardProxy>[0]): Promise<ForwardProxy> {
    const proxy = await startForwardProxy(options);
    onTestFinished(() => proxy.stop());
    return proxy;
  }

  async function startedTarget(): Promise<Target> {
    const target = await startTarget();
    onTestFinished(() => target.stop());
    return target;
  }

  function through(url: string, { tunnel }: { tunnel: boolean }): ProxyAgent {
    const agent = new ProxyAgent({ uri: url, proxyTunnel: tunnel });
    onTestFinished(() => agent.destroy());
    return agent;
  }

  function statusOf(asking: ClientRequest): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const answered = (response: IncomingMessage) => {
        resolve(response.statusCode);
        asking.destroy();
      };
      asking.on("response", answered).on("connect", answered).on("error", reject).end();
    });
  }

  test.each([{ tunnel: false }, { tunnel: true }])(
    "a request reaches the target from the proxy's exit (by CONNECT: $tunnel)",
    async ({ tunnel }) => {
      const target = await startedTarget();
      const seven = await started({ exit: "127.0.0.7" });
      const eight = await started({ exit: "127.0.0.8" });
      const before = performance.now();
      for (const proxy of [seven, seven, eight]) {
        const response = await fetch(target.url, { dispatcher: through(proxy.url, { tunnel }) });
        expect(response.status).toBe(200);
        await response.text();
      }
      expect(target.arrivals.map(({ exit }) => exit)).toEqual(["127.0.0.7", "127.0.0.7", "127.0.0.8"]);
      const instants = [before, ...target.arrivals.map(({ at }) => at), performance.now()];
      expect(instants).toEqual(instants.toSorted((a, b) => a - b));
      expect(target.countByExit()).toEqual(
        new Map([
          ["127.0.0.7", 2],
          ["127.0.0.8", 1],
        ]),
      );
      expect(target.maxInWindow(60_000)).toEqual(
        new Map([
          ["127.0.0.7", 2],
          ["127.0.0.8", 1],
        ]),
      );
      expect([seven.requests, eight.requests]).toEqual([2, 1]);
    },
  );

  test("a site counts the fetches of a token that run at once, without the clients that hung up", async () => {
    const site = await startGuestSite();
    onTestFinished(() => site.stop());
    const connect = () => dial(Number(new URL(site.url).port), "127.0.0.1").on("error", () => {});
    const ask = "POST /guest HTTP/1.1\r\nHost: site\r\nContent-Length: 0\r\n\r\n";
    site.delayMs = 60_000;
    const first = connect();
    first.write(ask);
    await eventually(() => expect(site.fetching).toBe(1));
    // Each client has ended its side of the connection when the request is read.
    for (let n = 0; n < 2; n++) connect().end(ask);
    await eventually(() => expect(site.minted).toHaveLength(2));
    first.destroy();
    await eventually(() => expect(site.fetching).toBe(0));
    const second = connect();
    second.write(ask);
    await eventually(() => expect(site.fetching).toBe(1));
    expect(site.atOnce).toBe(1);
    const third = connect();
    third.write(ask);
    await eventually(() => expect(site.atOnce).toBe(2));
    for (const each of [second, third]) each.destroy();
  });

  test("counts many requests over one kept connection one by one", async () => {
    const target = await startedTarget();
    const proxy = await started({ exit: "127.0.0.9" });
    const agent = through(proxy.url, { tunnel: false });
    for (let i = 0; i < 5; i++) await (await fetch(target.url, { dispatcher: agent })).text();
    expect(target.countByExit()).toEqual(new Map([["127.0.0.9", 5]]));
    expect(proxy.requests).toBe(5);
  });

  test("the target answers with the status and the Retry-After that the request names", async () => {
    const target = await startedTarget();
    const response = await fetch(`${target.url}?status=429&retryAfter=120`, {
      method: "POST",
      body: "x".repeat(100_000),
    });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("120");
    expect(await response.text()).toBe("seen\n");
    expect(target.countByExit()).toEqual(new Map([["127.0.0.1", 1]]));
  });

  test("a proxy with credentials answers 407 to a client without them or with wrong ones, and forwards nothing", async () => {
    const target = await startedTarget();
    const proxy = await started({ exit: "127.0.0.7", credentials: { username: "us er", password: "p:@ss/%" } });
    const wrong = `Basic ${Buffer.from("us er:wrong").toString("base64")}`;
    for (const headers of [{}, { "Proxy-Authorization": wrong }]) {
      // Sent manually, since undici's agent turns a 407 into an error.
      const asks = { host: proxy.host, port: proxy.port, headers };
      expect(await statusOf(request({ ...asks, path: target.url }))).toBe(407);
      expect(await statusOf(request({ ...asks, method: "CONNECT", path: `127.0.0.1:${target.port}` }))).toBe(407);
    }
    const bare = `http://${proxy.host}:${proxy.port}`;
    for (const tunnel of [false, true]) {
      await expect(fetch(target.url, { dispatcher: through(bare, { tunnel }) })).rejects.toThrow("fetch failed");
    }
    expect(target.arrivals).toEqual([]);
    expect(proxy.requests).toBe(0);
    for (const tunnel of [false, true]) {
      const response = await fetch(target.url, { dispatcher: through(proxy.url, { tunnel }) });
      expect(response.status).toBe(200);
      await response.text();
    }
    expect(target.countByExit()).toEqual(new Map([["127.0.0.7", 2]]));
    expect(proxy.requests).toBe(2);
  });

  test.each([{ tunnel: false }, { tunnel: true }])(
    "a proxy can fail in every way, and none reaches the target (by CONNECT: $tunnel)",
    async ({ tunnel }) => {
      const target = await startedTarget();
      let failure: "reset" | "hang" | { status: number } | undefined;
      const proxy = await started({ exit: "127.0.0.7", failWith: () => failure });
      const ask = (signal?: AbortSignal) =>
        fetch(target.url, { dispatcher: through(proxy.url, { tunnel }), ...(signal && { signal }) });

      failure = { status: 502 };
      if (tunnel) await expect(ask()).rejects.toThrow("fetch failed");
      else expect((await ask()).status).toBe(502);
      failure = "reset";
      await expect(ask()).rejects.toThrow("fetch failed");
      failure = "hang";
      const leaving = new AbortController();
      const hung = ask(leaving.signal);
      await eventually(() => expect(proxy.requests).toBe(3));
      leaving.abort();
      await expect(hung).rejects.toThrow("abort");
      failure = undefined;
      const response = await ask();
      expect(response.status).toBe(200);
      await response.text();
      expect(target.arrivals).toHaveLength(1);
      await proxy.stop();
      await expect(ask()).rejects.toThrow("fetch failed");
    },
  );

  test("waits a delay before forwarding, and forwards nothing for a client that leaves meanwhile", async () => {
    const target = await startedTarget();
    let delays = 0;
    const proxy = await started({ exit: "127.0.0.7", delayMs: () => [120, 1500][delays++] ?? 0 });
    const before = performance.now();
    await (await fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }) })).text();
    expect(target.arrivals[0]!.at - before).toBeGreaterThan(115);
    const leaving = new AbortController();
    const left = fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }), signal: leaving.signal });
    await eventually(() => expect(delays).toBe(2));
    leaving.abort();
    await expect(left).rejects.toThrow("abort");
    // A third request began later and waits as long. It proves that the second would have arrived by now.
    delays = 1;
    await (await fetch(target.url, { dispatcher: through(proxy.url, { tunnel: false }) })).text();
    expect(target.arrivals).toHaveLength(2);
  });
});

describe("maxInAnyWindow", () => {
  test("uses half-open windows: two instants exactly one window apart share none", () => {
    expect(maxInAnyWindow([0, 1000], 1000)).toBe(1);
    expect(maxInAnyWindow([0, 999], 1000)).toBe(2);
    expect(maxInAnyWindow([], 1000)).toBe(0);
    expect(maxInAnyWindow([5, 5, 5], 1)).toBe(3);
    expect(maxInAnyWindow([5, 5, 5], 0)).toBe(0);
  });

  test("agrees with trying every window, and does not change its argument", () => {
    // Between whole numbers, a window of whole width contains the same instants as one that starts at a whole number.
    const instant = fc.integer({ min: 0, max: 60 });
    fc.assert(
      fc.property(fc.array(instant, { maxLength: 40 }), fc.integer({ min: 0, max: 70 }), (instants, windowMs) => {
        const given = [...instants];
        let most = 0;
        for (let t = -windowMs - 1; t <= 61; t++) {
          most = Math.max(most, instants.filter((at) => t < at && at <= t + windowMs).length);
        }
        expect(maxInAnyWindow(instants, windowMs)).toBe(most);
        expect(instants).toEqual(given);
      }),
      { numRuns: 500 },
    );
  });
});
