// Manual leases, and leases for the duration of a function, over both transports; refusals and faults.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, connect, type HeldLease, RemudaFault, RemudaRefusal } from "../../client/client.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { deadPort } from "./lab.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
let site: Site;
let proxy: ForwardProxy;

beforeAll(async () => {
  [site, proxy] = [await startSite(), await startForwardProxy({ exit: "127.0.0.130" })];
});
afterAll(async () => {
  await Promise.all([site?.stop(), proxy?.stop()]);
});

const thrown = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error) => error);

for (const over of ["nats", "http"] as const) {
  test(`over ${over}: leases, renews, reports and releases, and gives the same request the same lease`, async () => {
    const pool = `manual-${over}`;
    await at.open(pool, ["192.0.2.1:80", "socks5://ann:hush@192.0.2.2:1080"]);
    const client = await at.client(over, { pool, holder: "tests" });
    const sentAt = performance.now();
    const lease = await client.lease({ uses: 3, schemes: ["socks5"], requestId: `the-same-request-${over}` });
    expect(lease).toMatchObject({ pool, uses: 3, scheme: "socks5", username: "ann", password: "hush" });
    expect(lease.endsAt - sentAt).toBeGreaterThanOrEqual(lease.leftMs - 1);
    expect(lease.endsAt).toBeLessThanOrEqual(performance.now() + lease.leftMs);
    const again = await client.lease({ uses: 3, schemes: ["socks5"], requestId: `the-same-request-${over}` });
    expect(again.leaseId).toBe(lease.leaseId);

    const { endsAt, expiresAt } = await client.renew(lease, { ttlMs: 300_000 });
    expect(expiresAt).toBeGreaterThan(lease.expiresAt + 100_000);
    expect(endsAt).toBeGreaterThan(lease.endsAt + 100_000);

    const { leaseId } = lease;
    const reply = await client.report([
      { leaseId, n: 1, status: 200 },
      { leaseId, n: 2, status: 503 },
      { leaseId: "l_none", n: 1, status: 200 },
    ]);
    expect(reply).toMatchObject({ accepted: 2, ignored: [{ leaseId: "l_none", why: "unknown-lease" }], stop: [] });
    expect(await client.release(lease, { used: 2 })).toEqual({ leaseId, used: 2, returned: 1 });
  });

  test(`over ${over}: throws each refusal as an error with its code and details`, async () => {
    const pool = `refused-${over}`;
    await at.open(pool, ["192.0.2.1:80"], { concurrency: 1 });
    const client = await at.client(over, { pool, retryMs: 0 });
    const lease = await client.lease();
    const exhausted = await thrown(client.lease());
    expect(exhausted).toBeInstanceOf(RemudaRefusal);
    expect(exhausted).toMatchObject({ code: "pool-exhausted", limitedBy: { concurrency: 1, rate: 0 } });
    expect(exhausted.retryAfterMs).toBeGreaterThan(0);
    expect(await thrown(client.lease({ labels: { country: "nowhere" } }))).toMatchObject({ code: "no-match" });
    expect(await thrown(client.lease({ uses: 100_000 }))).toMatchObject({ code: "invalid-request", field: "uses" });
    expect(await thrown(client.release({ ...lease, leaseId: "l_unknown" }))).toMatchObject({ code: "unknown-lease" });
    const nowhere = await thrown(client.lease({}, { pool: "not-open" }));
    expect(nowhere).toBeInstanceOf(RemudaRefusal);
    expect(nowhere).toMatchObject({ code: "unknown-pool", message: expect.stringContaining("not-open is not open") });
    expect(await thrown(client.fetch(site.url, {}, { waitMs: 0 }))).toMatchObject({
      name: "RemudaRefusal",
      code: "pool-exhausted",
    });
    expect(await thrown(client.lease({}, { pool: "Not A Pool" }))).toMatchObject({ code: "wrong-options" });
    await client.release(lease, { used: 0 });
  });

  test(`over ${over}: withLease counts, reports and gives back unused uses, even if its function throws`, async () => {
    const pool = `with-${over}`;
    await at.open(pool, [proxy.url], { backoff: { kind: "none" } });
    const client = await at.client(over, { pool });
    const texts = await client.withLease({ uses: 10 }, async (lease) => {
      const by = await lease.fetch(`${site.url}/seen`);
      const n = lease.take();
      lease.report({ n, status: 404 });
      lease.report({ status: 200 });
      return [await by.text(), n, lease.usesLeft];
    });
    expect(texts).toEqual(["seen\n", 2, 7]);
    const boom = Object.assign(new Error("boom"), { code: "ECONNRESET" });
    await expect(client.withLease({}, () => Promise.reject(boom))).rejects.toBe(boom);
    await client.withLease({}, () => "well");
    const [snapshot] = await at.proxies(pool);
    expect(snapshot).toMatchObject({ openLeases: 0, totals: { granted: 12, succeeded: 4, failed: 1, unreported: 0 } });
    expect((await at.reports(pool, 5)).map((each) => each.class)).toEqual([
      "success",
      "success",
      "success",
      "proxy-error",
      "success",
    ]);
  });
}

test("counts all uses as made if none was counted", async () => {
  await at.open("uncounted", [proxy.url]);
  const client = await at.client("nats", { pool: "uncounted" });
  await client.withLease({ uses: 5 }, () => "done");
  const [snapshot] = await at.proxies("uncounted");
  expect(snapshot).toMatchObject({ openLeases: 0, usesSinceRest: 5, totals: { succeeded: 1, unreported: 4 } });
});

test("keeps a lease until a response that outlives withLease is read, and then gives the remainder back", async () => {
  await at.open("outlives", [proxy.url]);
  const client = await at.client("nats", { pool: "outlives" });
  const response = await client.withLease({ uses: 3 }, (lease) => lease.fetch(`${site.url}/large/5000000`));
  expect((await at.stats("outlives")).leases).toMatchObject({ open: 1 });
  expect((await response.text()).length).toBe(5_000_000);
  await eventually(async () => expect((await at.stats("outlives")).leases).toMatchObject({ open: 0, expired: 0 }));
  expect((await at.stats("outlives")).outcomes).toMatchObject({ succeeded: 1, ignored: 0 });
  const [snapshot] = await at.proxies("outlives");
  expect(snapshot).toMatchObject({ usesSinceRest: 1, totals: { unreported: 0 } });
});

test("cuts an unawaited request of withLease at the lease's end, and gives its lease back only then", async () => {
  await at.open("left-lying", [proxy.url], { lease: { ttlMs: 500, graceMs: 500 } });
  const client = await at.client("nats", { pool: "left-lying" });
  let lying: Promise<unknown> | undefined;
  await client.withLease({}, async (lease) => {
    lying = thrown(lease.fetch(`${site.url}/hang`));
    await eventually(() => expect(site.held).toBe(1));
  });
  expect((await at.stats("left-lying")).leases).toMatchObject({ open: 1 });
  expect(await lying).toMatchObject({ code: "lease-over" });
  expect(await at.reports("left-lying", 1)).toMatchObject([{ class: "timeout" }]);
  site.letGo();
});

test("withLease aborts its signal at the lease's end, and then gives no further use", async () => {
  await at.open("times-out", [proxy.url], { lease: { ttlMs: 300, graceMs: 100 } });
  const client = await at.client("nats", { pool: "times-out" });
  let held: HeldLease | undefined;
  const sentAt = performance.now();
  const endedAt = await client.withLease({ uses: 2 }, async (lease, signal) => {
    held = lease;
    expect(lease.expiresAt - lease.grantedAt).toBe(300);
    expect(lease.endsAt - sentAt).toBeGreaterThan(200);
    const ended = new Promise<number>((resolve) => {
      signal.addEventListener("abort", () => resolve(performance.now()));
    });
    // A timer for just after the end does not fire before the signal: a thread's timers fire in their order.
    const after = new Promise<never>((_resolve, reject) => {
      setTimeout(reject, lease.endsAt - performance.now() + 20, new Error("the signal comes too late"));
    });
    const aborted = signal.aborted ? performance.now() : await Promise.race([ended, after]);
    after.catch(() => {}); // No test waits for it any more.
    expect(aborted).toBeGreaterThan(lease.endsAt - 20);
    expect(signal.reason).toMatchObject({ code: "lease-over" });
    return aborted;
  });
  expect(() => held?.take()).toThrow(RemudaFault);
  expect(await thrown(held!.fetch(site.url))).toMatchObject({ code: "lease-over" });
  expect(site.visits.filter(({ at: came }) => came > endedAt)).toEqual([]);
});

test("gives a clear fault if the service is missing, refuses the key, or is another program", async () => {
  const port = await deadPort();
  expect(await thrown(connect({ natsUrl: `nats://ann:hush@127.0.0.1:${port}` }))).toMatchObject({
    code: "no-connection",
  });
  expect((await thrown(connect({ natsUrl: `nats://ann:hush@127.0.0.1:${port}` }))).message).not.toContain("hush");
  const absent = await connect({ httpUrl: `http://127.0.0.1:${port}`, retryMs: 100 });
  expect(await thrown(absent.lease())).toMatchObject({ name: "RemudaFault", code: "no-connection" });
  const other = await connect({ url: `${site.url}/status/200` });
  expect(await thrown(other.lease())).toMatchObject({ name: "RemudaFault", code: "not-remuda" });
  const keyed = await connect({ url: `${site.url}/status/401?`, key: "hush" });
  expect(await thrown(keyed.lease())).toMatchObject({ name: "RemudaFault", code: "not-allowed" });
  expect(site.visits.at(-1)?.headers.authorization).toBe("Bearer hush");
  await Promise.all([absent, other, keyed].map((each: Client) => each.close()));
});

test("uses a service behind TLS only if its authority is trusted", async () => {
  const secure = await startSite({ secure: true });
  const url = `${secure.url}/status/401?`;
  const trusting = await connect({ url, key: "hush", tls: { ca: loopbackTls.cert }, retryMs: 0 });
  expect(await thrown(trusting.lease())).toMatchObject({ code: "not-allowed" });
  const before = secure.visits.length;
  const other = await connect({ url, key: "hush", retryMs: 0 });
  expect(await thrown(other.lease())).toMatchObject({ name: "RemudaFault", code: "no-answer" });
  expect(secure.visits.length).toBe(before);
  await Promise.all([trusting.close(), other.close(), secure.stop()]);
});

test("names wrong options", async () => {
  for (const [options, name] of [
    [{ url: "nats://a", httpUrl: "http://b" }, "url"],
    [{ httpUrl: "http://ann:hush@b" }, "httpUrl"],
    [{ httpUrl: "ftp://b" }, "httpUrl"],
    [{ pool: "a.b" }, "pool"],
    [{ fetch: { retries: 11 } }, "fetch.retries"],
    [{ fetch: { usesMax: 0 } }, "fetch.usesMax"],
    [{ fetch: { unknown: 1 } as object }, "fetch.unknown"],
    [{ key: "a b", httpUrl: "http://b" }, "key"],
  ] as const) {
    const error = await thrown(connect(options));
    expect([error.code, error.message.split(":")[0]]).toEqual(["wrong-options", name]);
    expect(error.message).not.toContain("hush");
  }
});
