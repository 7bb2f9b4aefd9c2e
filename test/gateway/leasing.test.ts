// The uses of a tunnel that is quiet between its requests. The service is a stand-in.
import { expect, onTestFinished, test, vi } from "vitest";
import type { Use } from "../../client/block.ts";
import { Outcomes } from "../../client/outcomes.ts";
import type { Port } from "../../client/port.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { Leasing } from "../../services/gateway/leasing.ts";
import { eventually } from "../kit/poll.ts";

let granted: Map<string, number>;
let released: Map<string, number>;
let outcomes: Outcome[];

function leasingOfAll(): Leasing {
  granted = new Map();
  released = new Map();
  outcomes = [];
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
  return new Leasing(port, (problem) => expect.unreachable(problem.message));
}

const reported = (use: Use): Outcome => ({ leaseId: use.block.lease.leaseId, n: use.n, status: 200 });

test("takes no use of a lease that it has given back", async () => {
  const leasing = leasingOfAll();
  const taking = { waitMs: 0, signal: new AbortController().signal };
  let use = await leasing.take("shop", { proxyId: "p_1" }, { ...taking, avoid: new Set() });
  for (const quiet of [0, 1, 2, 3]) {
    await leasing.ended(use, reported(use));
    await eventually(() => expect(released.size).toBe(quiet)); // The first has one use alone.
    use = await leasing.takeAlso(use, taking);
  }
  use.end();
  await leasing.close(1000);
  expect([...granted.values()]).toEqual([1, 2, 4, 8, 8]);
  expect(outcomes).toHaveLength(4);
  for (const { leaseId, n = 0 } of outcomes) expect(n).toBeLessThanOrEqual(released.get(leaseId) ?? 1);
});

/** @param ms of each request. */
async function requests(leasing: Leasing, count: number, ms: number): Promise<void> {
  for (let each = 0; each < count; each++) {
    const use = await leasing.take("shop", {}, { avoid: new Set(), waitMs: 0 });
    await vi.advanceTimersByTimeAsync(ms);
    void leasing.ended(use, reported(use));
  }
}

test("gives each request a lease of its own, unless there are very many requests", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const leasing = leasingOfAll();
  await requests(leasing, 20, 5);
  expect([...granted.values()]).toEqual(Array.from({ length: 20 }, () => 1));
  granted.clear();
  for (let burst = 0; burst < 10; burst++) {
    await requests(leasing, 10, 1);
    await vi.advanceTimersByTimeAsync(190);
  }
  expect([...granted.values()]).toEqual(Array.from({ length: 100 }, () => 1));
  await requests(leasing, 1000, 1);
  granted.clear();
  await requests(leasing, 64, 1);
  expect([...granted.values()]).toEqual([64]);
  granted.clear();
  await requests(leasing, 160, 20);
  // The next lease of 64 has had 50 uses when its moment is over. Then each request has its own lease again.
  expect([...released.values()]).toEqual([50]);
  expect([...granted.values()].slice(-20)).toEqual(Array.from({ length: 20 }, () => 1));
});

test("collects outcomes for longer while none of them changes what others can lease", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const batches: number[] = [];
  const sent = new Outcomes({
    async ask({ body }) {
      batches.push((body["outcomes"] as Outcome[]).length);
      return { accepted: 1, ignored: [], ignoredCount: 0, stop: [] } as never;
    },
    bytesMax: () => 500_000,
    onStop: () => {},
    onProblem: (problem) => expect.unreachable(problem.message),
  });
  const known: Promise<void>[] = [];
  for (let n = 1; n <= 6; n++) {
    known.push(sent.report("shop", { leaseId: "l_1", n }, { isPressing: false }));
    await vi.advanceTimersByTimeAsync(4);
    expect(batches).toEqual([]);
  }
  await vi.advanceTimersByTimeAsync(1);
  expect(batches).toEqual([6]);
  for (const isPressing of [false, true]) known.push(sent.report("shop", { leaseId: "l_1" }, { isPressing }));
  await vi.advanceTimersByTimeAsync(5);
  expect(batches).toEqual([6, 2]);
  await Promise.all(known);
});
