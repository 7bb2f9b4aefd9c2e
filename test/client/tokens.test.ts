// What the client does with guest tokens: it sends them to the site that was asked, reports what the site does not take, and
// tries once more.
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
  "fetch over %s carries the token, and tries once more when it is not taken",
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

test("a token that was minted a moment ago is not fetched again: the answer is the caller's", async () => {
  const pool = await opened({ minAgeMs: 60_000 });
  const client = await at.client("nats", { pool, token });
  await (await client.fetch(`${site.url}/data`)).text();
  site.invalidate();
  expect((await client.fetch(`${site.url}/data`)).status).toBe(401);
  expect(site.minted).toHaveLength(1);
  expect(site.rejected).toHaveLength(2);
});

test("it goes to no other origin, not even by a redirect, and not without being asked for", async () => {
  const other = await startGuestSite();
  const pool = await opened();
  const client = await at.client("nats", { pool, token });
  await (await client.fetch(`${site.url}/data`)).text();
  const plain = await client.fetch(`${other.url}/data`, {}, { token: false });
  expect(plain.status).toBe(401);
  expect(other.rejected.map(({ value }) => value)).toEqual([""]);
  await other.stop();
});

test("a lease by hand has it, and its fetch sends it in the form that the options say", async () => {
  const pool = await opened();
  const client = await at.client("nats", { pool, token: { header: "x-guest-token", template: "{token}" } });
  const seen = await client.withLease({ token: true, waitMs: 5000 }, async (lease) => {
    const response = await lease.fetch(`${site.url}/data`);
    await response.text();
    return { status: response.status, value: lease.token?.value };
  });
  expect(seen).toEqual({ status: 200, value: "secret-guest-1" });
});

test("options that cannot be are named", async () => {
  const wrong = (given: object) => at.client("nats", { token: given as { header: string } });
  await expect(wrong({ header: "a b" })).rejects.toThrow("token.header");
  await expect(wrong({ header: "a", template: "Bearer" })).rejects.toThrow("token.template");
  await expect(wrong({ header: "a", rejected: [200] })).rejects.toThrow("token.rejected");
});
