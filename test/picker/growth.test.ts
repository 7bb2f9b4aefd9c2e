// The reserve of the ledger's bound: leases stop before reports, renewals, releases and ends have no room any more.
import { expect, onTestFinished, test, vi } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import type { Bus } from "../../runtime/bus.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { StreamRoom } from "../../runtime/room.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Growth, noDemand } from "../../services/picker/growth.ts";
import { Requests } from "../../services/picker/requests.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { proxyLines } from "../kit/pool.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
const lax = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const bytesMax = 2 ** 20;

/** A ledger that refuses messages above its bound, as JetStream does: it throws. */
class BoundLedger extends MemoryLedger {
  override store(commit: { id: string; bytes: Uint8Array; afterSeq: number }) {
    const { bytes } = this.room();
    if (bytes + commit.bytes.length > bytesMax) throw new Error("maximum bytes exceeded");
    return super.store(commit);
  }
}

async function led(ledger = new BoundLedger({ bytesMax })) {
  const clock = new HandClock();
  const ends: unknown[] = [];
  const leader = await foldedLeader({
    ...{ pool: "test", id: "leader", ledger, clock, key, secrets: noSecrets },
    feed: { follow: () => {}, last: async () => undefined, stop: () => {} },
    tell: (event) => event.type === "broke" && ends.push(event.error),
  });
  let leases = 0;
  const newLeaseId = (): string => `l_${String(++leases).padStart(22, "0")}`;
  const requests = new Requests({ outbound: loopbackAllowed, leader, secrets: noSecrets, key, newLeaseId });
  const ask = (verb: Parameters<Requests["handle"]>[0], body: object = {}): Promise<Record<string, unknown>> =>
    new Promise((resolve) => requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)));
  const opened = new Promise((resolve) => requests.open({ policy: lax }, resolve));
  await leader.lead();
  await opened;
  await ask("proxies.add", { proxies: proxyLines(5) });
  return { leader, ledger, ask, ends };
}

test("stops leases in time for the reports, renewals and releases of all that are open, however fast they come", async () => {
  const { leader, ask, ends } = await led();
  // Thousands in one moment: no look at the ledger could come in between.
  const answers = await Promise.all(Array.from({ length: 3000 }, () => ask("lease", { uses: 3 })));
  const open = answers.filter((answer) => "leaseId" in answer);
  const refused = answers.filter((answer) => !("leaseId" in answer));
  expect(open.length).toBeGreaterThan(150);
  expect(refused[0]).toMatchObject({ code: "unavailable", message: expect.stringContaining("nearly full") });
  for (const [i, { leaseId }] of open.entries()) {
    if (i % 10 === 0) expect(await ask("renew", { leaseId })).toMatchObject({ leaseId });
    for (const n of [1, 2]) {
      const report = await ask("report", { outcomes: [{ leaseId, n, status: 403 }] });
      expect(report).toMatchObject({ accepted: 1 });
    }
    expect(await ask("release", { leaseId })).toMatchObject({ used: 3 });
  }
  expect(ends).toEqual([]);
  leader.stop();
});

test("counts requests that wait for a proxy, added proxies, and leases that are open since an earlier leader", async () => {
  const first = await led();
  await first.ask("pool.policy", { policy: { concurrency: 1 } });
  for (let i = 0; i < 5; i++) await first.ask("lease", { uses: 1 });
  const waits = Array.from({ length: 3000 }, () => first.ask("lease", { waitMs: 60_000 }));
  const refused: object[] = [];
  for (const wait of waits) void wait.then((answer) => "code" in answer && refused.push(answer));
  await first.ask("pool.stats");
  expect(refused.length).toBeGreaterThan(2500);
  expect(await first.ask("proxies.add", { proxies: proxyLines(9, 50) })).toMatchObject({ code: "unavailable" });
  first.leader.stop();
  // The waiting requests are gone with their leader.
  const second = await led(first.ledger);
  expect(await second.ask("proxies.add", { proxies: proxyLines(9, 50) })).toMatchObject({ added: 9 });
  second.leader.stop();
});

test("counts the open leases and the accepted requests of all pools whose ledgers share the stream", async () => {
  const demand = noDemand();
  const ledger = { room: () => ({ bytes: 2 * 10 ** 5, bytesMax: 10 ** 6 }), measure: async () => {} };
  const growth = (): Growth => new Growth({ ledger, clock: new HandClock(), leases: () => [], demand });
  const request = leaseRequestSchema.parse({});
  const asked = { type: "lease", request, leaseId: "", deadline: 0, user: undefined, quota: undefined } as const;
  const answers: (() => void)[] = [];
  const fill = (pool: Growth): number => {
    for (let accepted = 0; ; accepted++) {
      const caller = pool.admit(asked, { respond: () => {} });
      if (caller === undefined) return accepted;
      answers.push(caller.respond);
    }
  };
  const [web, shop] = [growth(), growth()];
  expect(fill(web)).toBeGreaterThan(200);
  expect(fill(shop)).toBe(0);
  for (const answer of answers) answer(); // Each has its lease now, which needs less than the request did.
  expect(fill(shop)).toBeGreaterThan(50);
  expect(fill(web)).toBe(0);
  shop.stop();
  for (const answer of answers) answer(); // A leader that has ended counts no longer.
  expect(fill(web)).toBeGreaterThan(50);
  web.stop();
  expect(demand).toEqual(noDemand());
});

test("sees by the sequence of an acknowledgement that others have stored messages, and asks the stream", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  let state = { bytes: 1000, last_seq: 10 };
  let asked = 0;
  const answer = (): object => ({ config: { max_bytes: 10_000_000 }, state });
  const reply = { string: () => JSON.stringify(answer()) };
  const request = async (): Promise<object> => {
    asked++;
    return reply;
  };
  const nc = { request };
  const bus = {
    nc,
    up: true,
    whenDown: () => ({ promise: new Promise(() => {}), cancel: () => {} }),
  } as unknown as Bus;
  const stream = new StreamRoom(bus, "S");
  await stream.measure();
  const concluded = stream.sending(700);
  expect(stream.room).toEqual({ bytes: 2000, bytesMax: 10_000_000 });
  concluded(11);
  await stream.measure(); // Shared.
  expect(asked).toBe(1);
  vi.advanceTimersByTime(260);
  state = { bytes: 5_000_000, last_seq: 40 };
  stream.sending(700)(40);
  await Promise.resolve();
  expect(asked).toBe(2);
  await new Promise((resolve) => setImmediate(resolve));
  expect(stream.room.bytes).toBe(5_000_000);
});

test("a lease of more uses than the pool grants is invalid, and is not refused for want of room", async () => {
  const { leader, ask } = await led();
  expect(await ask("lease", { uses: 1e9 })).toMatchObject({ code: "invalid-request", field: "uses" });
  leader.stop();
});
