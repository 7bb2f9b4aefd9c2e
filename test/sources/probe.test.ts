// The outcome of one probe, by the head of the answer that comes back through the proxy.

import { createServer, type OutgoingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { probeThrough } from "../../services/sources/probe.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

let answer: { status: number; headers: OutgoingHttpHeaders };
const proxy = createServer((_request, response) => response.writeHead(answer.status, answer.headers).end());

beforeAll(() => new Promise<void>((resolve) => void proxy.listen(0, "127.0.0.1", resolve)));
afterAll(() => void proxy.close());

test.each([
  [200, {}, { status: 200 }],
  [429, { "retry-after": "7" }, { status: 429, retryAfterMs: 7000 }],
  [404, { "retry-after": "7" }, { status: 404 }],
  [502, { "proxy-status": "squid; error=dns_error" }, { status: 502, reason: "proxy-error" }],
  [502, {}, { status: 502 }],
  [407, {}, { status: 407, reason: "proxy-auth", error: "ERR_PROXY" }],
])("reports a %i with %j as its head says", async (status, headers, expected) => {
  answer = { status, headers };
  const { port } = proxy.address() as AddressInfo; // It listens on TCP.
  const lease = { leaseId: "l_1", pool: "p", proxyId: "p_1", url: `http://127.0.0.1:${port}`, host: "127.0.0.1", port };
  const counts = { uses: 1, epoch: 0, grantedAt: 0, expiresAt: 90_000, leftMs: 90_000 };
  const outcome = await probeThrough(
    { ...lease, ...counts, scheme: "http", labels: {} },
    { url: "http://target.example/", perMinute: 1, timeoutMs: 5000 },
    { signal: AbortSignal.timeout(5000), outbound: loopbackAllowed },
  );
  const { latencyMs, ...told } = outcome;
  expect(told).toEqual({ leaseId: "l_1", n: 1, target: "target.example", bytes: 0, ...expected });
  expect(latencyMs).toBeGreaterThanOrEqual(0);
});
