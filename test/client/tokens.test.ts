// The client's use of guest tokens: it sends them to the requested site, reports rejected ones, and tries once more.
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { setting } from "./setting.ts";

const at = setting();
let site: GuestSite;
let proxy: ForwardProxy;
const token = { header: "x-guest-token" };

beforeAll(async () => {
  proxy = await startForwardProxy({ exit: "127.0.0.90" });
});
beforeEach(async () => {
  await site?.stop();
  site = await startGuestSite();
});
afterAll(async () => {
  await Promise.all([proxy?.stop(), site?.stop()]);
});

let pools = 0;
async function opened(more: object = {}): Promise<string> {
  const pool = `client-tokens-${++pools}`;
  const source = { url: `${site.url}/guest`, value: { jsonPointer: "/guest_token" } };
  await at.open(pool, [proxy.url], { rate: null, backoff: { kind: "none" }, token: { source, minAgeMs: 0, ...more } });
  return pool;
}

test.each(["nats", "http"] as const)(
  "fetch over %s carries the token, and tries once more if it is rejected",
  async (over) => {
    const client = await at.client(over, { pool: await opened(), token });
    expect((await client.fetch(`${site.url}/data`)).status).toBe(200);
    expect(site.minted).toHaveLength(1);
    site.invalidate();
    const response = await client.fetch(`${site.url}/data`, { method: "POST", body: "all of it" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("seen\n");
    expect(site.minted).toHaveLength(2);
    expect(site.rejected.map(({ value }) => value)).toEqual(["secret-guest-1"]);
  },
);

test("passes the answer to the caller, without a refresh, if the rejected token was just minted", async () => {
  const pool = await opened({ minAgeMs: 60_000 });
  const client = await at.client("nats", { pool, token });
  await (await client.fetch(`${site.url}/data`)).text();
  site.invalidate();
  expect((await client.fetch(`${site.url}/data`)).status).toBe(401);
  expect(site.minted).toHaveLength(1);
  expect(site.rejected).toHaveLength(1);
});

test("sends the token to no other origin, not even by a redirect, and only if configured", async () => {
  const other = await startGuestSite();
  const pool = await opened();
  const client = await at.client("nats", { pool, token });
  await (await client.fetch(`${site.url}/data`)).text();
  const plain = await client.fetch(`${other.url}/data`, {}, { token: false });
  expect(plain.status).toBe(401);
  expect(other.rejected.map(({ value }) => value)).toEqual([""]);
  await other.stop();
});

test("a manual lease has the token, and its fetch sends it in the form that the options say", async () => {
  const pool = await opened();
  const client = await at.client("nats", { pool, token: { header: "x-guest-token", template: "{token}" } });
  const seen = await client.withLease({ token: true, waitMs: 5000 }, async (lease) => {
    const response = await lease.fetch(`${site.url}/data`);
    await response.text();
    return { status: response.status, value: lease.token?.value };
  });
  expect(seen).toEqual({ status: 200, value: "secret-guest-1" });
});

test("names invalid options", async () => {
  const wrong = (given: object) => at.client("nats", { token: given as { header: string } });
  await expect(wrong({ header: "a b" })).rejects.toThrow("token.header");
  await expect(wrong({ header: "a", template: "Bearer" })).rejects.toThrow("token.template");
  await expect(wrong({ header: "a", rejected: [200] })).rejects.toThrow("token.rejected");
});
