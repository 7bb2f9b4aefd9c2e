// The uses of a tunnel that is quiet between its requests. The service is a stand-in.
import { expect, test } from "vitest";
import type { Port } from "../../client/port.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { Leasing } from "../../services/gateway/leasing.ts";
import { eventually } from "../kit/poll.ts";

test("takes no use of a lease that it has given back", async () => {
  const granted = new Map<string, number>();
  const released = new Map<string, number>();
  const outcomes: Outcome[] = [];
  const port: Port = {
    bytesMax: 500_000,
    async attempt({ verb, pool, body }) {
      if (verb === "lease") {
        const leaseId = `l_${granted.size + 1}`;
        const uses = Number(body["uses"]);
        granted.set(leaseId, uses);
        const at = { grantedAt: 0, expiresAt: 60_000, leftMs: 60_000 };
        return { leaseId, pool, proxyId: "p_1", url: "http://127.0.0.1:1", uses, epoch: 0, labels: {}, ...at };
      }
      if (verb === "release") released.set(String(body["leaseId"]), Number(body["used"]));
      else if (verb === "report") outcomes.push(...(body["outcomes"] as Outcome[]));
      return verb === "report" ? { accepted: 1, ignored: [], ignoredCount: 0, stop: [] } : {};
    },
    cancel: async () => {},
    close: async () => {},
  };
  const leasing = new Leasing(port, (problem) => expect.unreachable(problem.message));
  const taking = { waitMs: 0, signal: new AbortController().signal };
  let use = await leasing.take("shop", { proxyId: "p_1" }, { ...taking, avoid: new Set() });
  for (const quiet of [0, 1, 2, 3]) {
    await leasing.ended(use, { leaseId: use.block.lease.leaseId, n: use.n, status: 200 });
    await eventually(() => expect(released.size).toBe(quiet)); // The first has one use alone.
    use = await leasing.takeAlso(use, taking);
  }
  use.end();
  await leasing.close(1000);
  expect([...granted.values()]).toEqual([1, 2, 4, 8, 8]);
  expect(outcomes).toHaveLength(4);
  for (const { leaseId, n = 0 } of outcomes) expect(n).toBeLessThanOrEqual(released.get(leaseId) ?? 1);
});
