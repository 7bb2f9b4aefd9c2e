// Agents are kept per proxy, up to a bound.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { LeaseReply } from "../../protocol/wire.ts";
import { Agents } from "../../transport/agents.ts";
import { startForwardProxy } from "../kit/forward-proxy.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
let site: Site;

beforeAll(async () => {
  site = await startSite();
});
afterAll(() => site?.stop());

const options = { max: 2, headersTimeoutMs: 1000, bodyTimeoutMs: 1000, connectTimeoutMs: 1000, tunnelHttp: false };
const leaseOf = (proxyId: string): LeaseReply =>
  ({ proxyId, scheme: "http", host: "127.0.0.1", port: 1 }) as LeaseReply; // The fields that an agent reads.

test("closes the least recently used agent over the bound, but never one with a request under way", async () => {
  const agents = new Agents(options);
  const [a, b] = [agents.enter(leaseOf("a")), agents.enter(leaseOf("b"))];
  const c = agents.enter(leaseOf("c"));
  expect(agents.size).toBe(3); // All have a request under way.
  for (const each of [a, b, c]) agents.leave(each);
  const again = agents.enter(leaseOf("b"));
  expect([again === b, agents.size]).toEqual([true, 2]); // a has gone.
  agents.leave(again);
  expect(agents.enter(leaseOf("c"))).toBe(c);
  expect(agents.enter(leaseOf("a"))).not.toBe(a);
  await agents.close();
  expect(agents.size).toBe(0);
});

test("carries the requests of many leases over one connection, and each request is still a use", async () => {
  const proxy = await startForwardProxy({ exit: "127.0.0.180" });
  await at.open("kept", [proxy.url], { rate: null });
  const client = await at.client("nats", { pool: "kept", fetch: { tunnelHttp: true, usesMax: 1 } });
  for (let i = 0; i < 5; i++) await (await client.fetch(`${site.url}/seen`)).text();
  expect(proxy.requests).toBe(1); // One tunnel.
  expect(site.countFrom("127.0.0.180")).toBe(5);
  expect((await at.stats("kept")).leases.granted).toBe(5);
  await client.close();
  await proxy.stop();
});
