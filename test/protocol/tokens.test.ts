import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { type SocksProxy, startSocksProxy } from "../kit/socks-proxy.ts";
import { type Lease, lax, startWire, type Wire } from "./wire.ts";

type Token = { tokenId: string; value: string; mintedAt: number; expiresAt?: number; proxyId?: string };

let wire: Wire;
let site: GuestSite;
let proxies: ForwardProxy[] = [];
let socks: SocksProxy;

beforeAll(async () => {
  wire = await startWire();
  proxies = await Promise.all(
    [2, 3].map((n) => startForwardProxy({ exit: `127.0.0.${n}`, credentials: { username: "u", password: `p${n}` } })),
  );
  socks = await startSocksProxy({ exit: "127.0.0.4" });
}, 180_000);

beforeEach(async () => {
  await site?.stop();
  site = await startGuestSite();
});

afterAll(async () => {
  await wire?.stop();
  await site?.stop();
  await Promise.all([...proxies, socks].map((each) => each?.stop()));
});

let pools = 0;
async function opened(token: Record<string, unknown> = {}, urls = proxies.map(({ url }) => url)): Promise<string> {
  const pool = `tokens-${++pools}`;
  const source = { url: `${site.url}/guest`, value: { jsonPointer: "/guest_token" }, ...(token["source"] as object) };
  await wire.open(pool, { ...lax, token: { ...token, source } }, urls);
  return pool;
}

/** Longer than any test: a request that waits this long is answered because of an event, not by its timeout. */
const waitMs = 60_000;

/** A token's life is counted from an instant between the grant of its refresh's lease and its minting. */
async function expectLife(pool: string, token: Token, lifeMs: number): Promise<void> {
  const requested = (await wire.dated(pool, "TokenRequested")).find(({ tokenId }) => tokenId === token.tokenId);
  expect(token.expiresAt).toBeGreaterThanOrEqual((requested?.at ?? Number.POSITIVE_INFINITY) + lifeMs);
  expect(token.expiresAt).toBeLessThanOrEqual(token.mintedAt + lifeMs);
}

const types = async (pool: string) => (await wire.events(pool)).map(({ type }) => type);

test("fetches a token on demand, through a leased proxy, and gives everybody the same one", async () => {
  const pool = await opened({ scope: "pool" });
  const asked = Array.from({ length: 20 }, () => wire.ok<Token>("token.get", pool, { waitMs }));
  const tokens = await Promise.all(asked);
  expect(new Set(tokens.map(({ tokenId }) => tokenId)).size).toBe(1);
  expect(tokens[0]).toEqual({
    tokenId: expect.stringMatching(/^t_/),
    value: "secret-guest-1",
    mintedAt: expect.any(Number),
  });
  expect(site.minted).toHaveLength(1);
  expect(["127.0.0.2", "127.0.0.3"].some((exit) => site.minted[0]?.exit.endsWith(exit))).toBe(true);
  const events = await wire.events(pool);
  const [granted, requested] = events.slice(events.findIndex(({ type }) => type === "TokenRequested") - 1);
  expect(granted).toMatchObject({ type: "LeaseGranted", leaseId: requested?.["leaseId"] });
  const commit = (await wire.ledger(pool)).find(({ commit }) => commit.events.includes(requested!));
  expect(commit === undefined || commit.commit.events.length >= 2).toBe(true);
  expect(events).toContainEqual({
    type: "TokenMinted",
    tokenId: tokens[0]?.tokenId,
    token: "fresh",
    mintedAt: tokens[0]?.mintedAt,
  });
  expect(events.find(({ type }) => type === "UseReported")).toMatchObject({ class: "success", status: 200 });
  expect((await wire.stats(pool)).leases.open).toBe(0);
});

test("a lease with a token carries its value, and the same request again gets the same value", async () => {
  const pool = await opened({ source: { life: { jsonPointer: "/expires_in" } } });
  const request = { token: true, waitMs, requestId: "a-request-of-a-token" };
  const lease = await wire.lease(pool, request);
  const { token } = lease as Lease & { token: Token };
  expect(token).toEqual({
    tokenId: expect.stringMatching(/^t_/),
    value: "secret-guest-1",
    mintedAt: expect.any(Number),
    expiresAt: expect.any(Number),
  });
  await expectLife(pool, token, 60_000);
  expect(await wire.lease(pool, request)).toMatchObject({ leaseId: lease.leaseId, token });
  await wire.refused("lease", pool, { ...request, token: false }, "invalid-request");
  expect(await wire.ok("token.get", pool, { proxyId: lease.proxyId })).toEqual({ ...token, proxyId: lease.proxyId });
  expect(await wire.ok<{ leases: object[] }>("leases.list", pool)).not.toHaveProperty("leases.0.token.value");
});

test("keeps a young token that is rejected, ignores a rejection of another, refreshes an old one", async () => {
  const pool = await opened({ scope: "pool", minAgeMs: 60_000 });
  const first = await wire.ok<Token>("token.get", pool, { waitMs });
  const { tokenId, mintedAt } = first;
  type Kept = { retryAfterMs: number };
  const { answer: kept, from, to } = await wire.timed(pool, () => wire.ok<Kept>("token.reject", pool, { tokenId }));
  expect(kept).toEqual({ action: "kept", tokenId, retryAfterMs: expect.any(Number) });
  expect(kept.retryAfterMs).toBeGreaterThanOrEqual(mintedAt + 60_000 - to);
  expect(kept.retryAfterMs).toBeLessThanOrEqual(mintedAt + 60_000 - from);
  await wire.ok("pool.policy", pool, { policy: { token: { minAgeMs: 1000 } } });
  expect(await wire.ok("token.reject", pool, { tokenId: "no such token" })).toEqual({ action: "ignored", tokenId });
  await eventually(async () =>
    expect(await wire.ok("token.reject", pool, { tokenId })).toMatchObject({ action: "refreshing", tokenId }),
  );
  const refreshing = (await wire.dated(pool, "TokenRejected")).find(({ action }) => action === "refreshing");
  expect(refreshing?.at).toBeGreaterThanOrEqual(mintedAt + 1000);
  const second = await wire.ok<Token>("token.get", pool, { waitMs });
  expect(second.value).toBe("secret-guest-2");
  expect(await wire.ok("token.reject", pool, { tokenId })).toEqual({ action: "ignored", tokenId: second.tokenId });
  expect(site.minted).toHaveLength(2);
  await eventually(async () => {
    const rejections = (await wire.events(pool)).filter(({ type }) => type === "TokenRejected");
    expect(new Set(rejections.map(({ action }) => action))).toEqual(new Set(["kept", "ignored", "refreshing"]));
  });
});

test("counts an outcome with tokenRejected as a success of the proxy and a rejection of the lease's token", async () => {
  const pool = await opened({ minAgeMs: 0 });
  const lease = (await wire.lease(pool, { token: true, waitMs })) as Lease & { token: Token };
  await wire.report(pool, { leaseId: lease.leaseId, status: 401, tokenRejected: true });
  const commits = (await wire.ledger(pool)).map(({ commit }) => commit.events.map(({ type }) => type));
  const commit = commits.find((events) => events.includes("TokenRejected"));
  expect(commit?.slice(0, 3)).toEqual(["UseReported", "TokenRejected", "LeaseClosed"]);
  expect(await wire.get(pool, lease.proxyId)).toMatchObject({ totals: { failed: 0 } });
  await eventually(async () => expect(await types(pool)).toContain("TokenMinted"));
  const next = await wire.ok<Token>("token.get", pool, { proxyId: lease.proxyId, waitMs });
  expect(next.value).not.toBe(lease.token.value);
});

describe("the response of a token source", () => {
  test.each([
    ["a status of its own", 403, "no", "status"],
    ["no JSON", 200, "<html>", "unreadable"],
    ["JSON without it", 200, '{"other": 1}', "no-value"],
    ["a value that cannot stand in a header", 200, '{"guest_token": "a\\nb"}', "no-value"],
    ["an object in its place", 200, '{"guest_token": {}}', "no-value"],
    ["more than a mebibyte", 200, `{"guest_token": "${"x".repeat(1_100_000)}"}`, "too-large"],
  ])("refuses %s with an error code, and retries later", async (_title, status, body, why) => {
    site.answer = (response) => {
      response.statusCode = status;
      response.end(body);
    };
    const pool = await opened({ scope: "pool", unavailableAfter: 1, retry: { baseMs: 60_000 } });
    await wire.refused("token.get", pool, { waitMs }, "token-unavailable");
    const [refused] = await wire.dated(pool, "TokenRefused");
    expect(refused).toMatchObject({ why, token: "unavailable", failures: 1, retryAt: expect.any(Number) });
    const retryAt = Number(refused?.["retryAt"]);
    expect(retryAt).toBeGreaterThanOrEqual((refused?.at ?? 0) + 60_000);
    await wire.refusedUntil(retryAt, "token.get", pool, { waitMs }, "token-unavailable");
    await wire.refusedUntil(retryAt, "lease", pool, { token: true, waitMs }, "token-unavailable");
    expect((await wire.stats(pool)).leases.open).toBe(0);
  });

  test("may hold the token in a header or where an expression finds it, with a lifetime beside it", async () => {
    site.answer = (response, value) => {
      response.setHeader("x-token", value);
      response.setHeader("x-life", "90");
      response.end(`<script>document.cookie = "gt=${value}; Max-Age=120"</script>`);
    };
    const header = await opened({ source: { value: { header: "X-Token" }, life: { header: "x-life" } } }, [
      `socks5://${socks.address}`,
    ]);
    const one = await wire.ok<Token>("token.get", header, { waitMs });
    expect(one).toMatchObject({ value: "secret-guest-1", proxyId: expect.stringMatching(/^p_/) });
    await expectLife(header, one, 90_000);
    const source = { value: { regex: 'gt=([^;"]+)' }, life: { regex: "Max-Age=(\\d+)" } };
    const body = await opened({ source });
    const two = await wire.ok<Token>("token.get", body, { waitMs });
    expect(two.value).toBe("secret-guest-1");
    await expectLife(body, two, 120_000);
  });

  test("an expression that would never end is stopped", async () => {
    site.answer = (response) => void response.end("a".repeat(60));
    const pool = await opened({ scope: "pool", unavailableAfter: 1, source: { value: { regex: "^(a+)+$x" } } });
    await wire.refused("token.get", pool, { waitMs }, "token-unavailable");
    expect((await wire.events(pool)).find(({ type }) => type === "TokenRefused")).toMatchObject({ why: "no-value" });
  });

  test("may be missing until the request's time is over", async () => {
    site.answer = () => {};
    const pool = await opened({ scope: "pool", unavailableAfter: 1, source: { timeoutMs: 200 } });
    await wire.refused("token.get", pool, { waitMs }, "token-unavailable");
    const events = await wire.events(pool);
    expect(events.find(({ type }) => type === "TokenRefused")).toMatchObject({ why: "timeout" });
    expect(events.find(({ type }) => type === "UseReported")).toMatchObject({ class: "timeout" });
  });
});

test("refuses an unknown proxy, a contradictory source, and a policy without a source", async () => {
  const pool = await opened();
  await wire.refused("token.get", pool, { proxyId: "p_0000000000000000" }, "unknown-proxy");
  await wire.refused("token.get", pool, { waitMs: 60_001 }, "invalid-request");
  await wire.refused("token.reject", pool, {}, "invalid-request");
  const both = { token: { source: { value: { header: "a", jsonPointer: "/b" } } } };
  expect(await wire.refused("pool.policy", pool, { policy: both }, "invalid-request")).toMatchObject({
    field: expect.stringContaining("policy.token.source.value"),
  });
  const other = { token: { source: { value: { header: "a" } } } };
  expect(await wire.ok("pool.policy", pool, { policy: other })).toMatchObject({
    policy: { token: { scope: "proxy", minAgeMs: 120_000, source: { value: { header: "a" }, method: "POST" } } },
  });
  await wire.ok("pool.policy", pool, { policy: { token: null } });
  await wire.refused("token.get", pool, {}, "no-token-source");
  await wire.refused("lease", pool, { token: true }, "no-token-source");
});

test("shows a value in replies only: not in the ledger, the logs, or any readable stream", async () => {
  const pool = await opened();
  const { value } = await wire.ok<Token>("token.get", pool, { waitMs });
  expect(value).toMatch(/^secret-guest-/);
  for (const { bytes } of await wire.ledger(pool)) expect(bytes.toString()).not.toContain("secret-guest");
  expect(wire.remuda.output()).not.toContain("secret-guest");
  expect(wire.remuda.output()).not.toContain("p2@");
});

test("lets only the executor take refreshes and deliver tokens", async () => {
  const pool = await opened();
  const client = wire.nats;
  const before = client.errors.length;
  // The server answers the messages before a PING before it sends the PONG.
  for (const verb of ["take", "result"]) client.publish(`remuda.token.${verb}.${pool}`, "{}");
  await client.flush();
  expect(client.errors.slice(before)).toHaveLength(2);
  const executor = await connectRaw(wire.remuda.natsUrlAs("guest-token"));
  expect((await executor.request(`remuda.token.take.${pool}`, "{}")).json()).toMatchObject({ code: "invalid-request" });
  for (const subject of ["remuda.proxies.export.default", `remuda.token.get.${pool}`]) executor.publish(subject, "{}");
  await executor.flush();
  expect(executor.errors).toHaveLength(2);
  await executor.close();
});
