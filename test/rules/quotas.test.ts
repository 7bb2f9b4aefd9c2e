// Quotas of users: exact over all pools of one process, and after another leader has taken a pool over.
import { expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import type { Quota } from "../../protocol/quota.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Answer, Request } from "../../state-machines/command.ts";
import { Engine } from "../../state-machines/engine.ts";
import { restore, snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { Quotas } from "../../state-machines/queue/quotas.ts";
import { addition, proxyId } from "../audit/scripted.ts";
import { seeded } from "../kit/seed.ts";

const start = 1_770_000_000_000;
const free = { rate: null, concurrency: null, usage: null };
let ids = 0;

/** A pool whose leader counts with the others of its process. */
class Led {
  readonly engine: Engine<number>;
  at = start;
  #asked = 0;
  readonly answers = new Map<number, Answer>();

  constructor(pool: string, quotas: Quotas, given: { policy?: object; state?: PoolState; proxies?: number } = {}) {
    const { policy = free, state = new PoolState(pool), proxies = 1 } = given;
    this.engine = new Engine(state, quotas);
    this.engine.catchUp(undefined);
    this.at = Math.max(state.at, start);
    if (state.opened) {
      this.turn([], "picker-2");
      return;
    }
    const added = Array.from({ length: proxies }, (_, i) =>
      addition(proxyId(i + 1), `192.0.${2 + (i >> 8)}.${i & 255}`, {}),
    );
    this.turn([{ type: "open", policy: { ...policy }, keyFingerprint: "0123456789abcdef" }, ...added], "picker-1");
  }

  turn(requests: Request[], claim?: string): (Answer | undefined)[] {
    const asked = requests.map((request) => ({ to: ++this.#asked, request }));
    const { answers } = this.engine.turn({
      at: this.at,
      chance: "0123456789abcdef0123456789abcdef",
      newId: () => "0".repeat(22),
      claim,
      outcomes: [],
      requests: asked,
      hasRoom: () => true,
      proven: true,
    });
    for (const { to, answer } of answers) this.answers.set(to, answer);
    return asked.map(({ to }) => this.answers.get(to));
  }

  leases(user: string, quota: Quota | undefined, bodies: Record<string, unknown>[]): (Answer | undefined)[] {
    return this.turn(
      bodies.map((body) => {
        const request = leaseRequestSchema.parse(body);
        const leaseId = `l_${String(++ids).padStart(22, "0")}`;
        return { type: "lease", request, leaseId, deadline: this.at + request.waitMs, user, quota };
      }),
    );
  }

  lease(user: string, quota?: Quota, body: Record<string, unknown> = {}): Answer | undefined {
    return this.leases(user, quota, [body])[0];
  }

  release(answer: Answer | undefined): void {
    this.turn([{ type: "release", leaseId: idOf(answer) }]);
  }
}

const granted = { lease: expect.anything() };
function idOf(answer: Answer | undefined): string {
  if (answer !== undefined && "lease" in answer) return answer.lease.id;
  throw new Error(`not a lease: ${JSON.stringify(answer)}`);
}
function over(message: RegExp | string, retryAfterMs: number): { refusal: Refusal } {
  const text = expect.stringMatching(message) as unknown as string;
  return { refusal: { ...refuse("overloaded", text), retryAfterMs } };
}

test("open leases: refuses one more, names the quota, and says when a lease ends", () => {
  const pool = new Led("web", new Quotas());
  const quota = { openLeases: 2 };
  const first = pool.lease("ann", quota, { ttlMs: 30_000 });
  pool.at += 1000;
  expect(pool.lease("ann", quota, { ttlMs: 10_000 })).toMatchObject(granted);
  expect(pool.lease("ann", quota)).toEqual(
    over(/^ann has reached the quota openLeases: at most 2 open leases\.$/, 10_000),
  );
  expect(pool.lease("bob", quota)).toMatchObject(granted);
  expect(pool.lease("ann")).toMatchObject(granted);
  // Three are open, so two must end.
  expect(pool.lease("ann", quota)).toEqual(over(/openLeases/, 29_000));
  pool.release(first);
  expect(pool.lease("ann", quota)).toEqual(over(/openLeases/, 10_000));
  pool.at += 10_000;
  expect(pool.lease("ann", quota)).toMatchObject(granted);
});

test("holds within one turn, and for a renewed lease", () => {
  const pool = new Led("web", new Quotas());
  const quota = { openLeases: 3 };
  const answers = pool.leases("ann", quota, [{}, {}, {}, {}, {}]);
  expect(answers.filter((answer) => answer !== undefined && "lease" in answer)).toHaveLength(3);
  for (const answer of answers.slice(0, 3)) pool.turn([{ type: "renew", leaseId: idOf(answer), ttlMs: 300_000 }]);
  expect(pool.lease("ann", quota)).toEqual(over(/openLeases/, 300_000));
});

test("leases per minute: a sliding minute, exact to the millisecond", () => {
  const pool = new Led("web", new Quotas());
  const quota = { leasesPerMinute: 3 };
  const took = (): Answer | undefined => {
    const answer = pool.lease("ann", quota, { ttlMs: 1000 });
    if (answer !== undefined && "lease" in answer) pool.release(answer);
    return answer;
  };
  for (const passed of [0, 7000, 8000]) {
    pool.at = start + passed;
    expect(took()).toMatchObject(granted);
  }
  pool.at = start + 59_999;
  expect(took()).toEqual(over(/^ann has reached the quota leasesPerMinute: at most 3 leases per minute\.$/, 1));
  pool.at = start + 60_000;
  expect(took()).toMatchObject(granted);
  expect(took()).toEqual(over(/leasesPerMinute/, 7000));
  pool.at = start + 120_000;
  for (let i = 0; i < 3; i++) expect(took()).toMatchObject(granted);
  expect(took()).toEqual(over(/leasesPerMinute/, 60_000));
});

test("leases per minute: agrees with a count of all grants, over many minutes and two pools", () => {
  const quotas = new Quotas();
  const pools = [new Led("web", quotas), new Led("shop", quotas)];
  const random = seeded(1);
  const taken: number[] = [];
  for (let step = 0, at = start; step < 400; step++) {
    at += random.int(0, step % 100 < 50 ? 4000 : 20_000);
    const pool = random.pick(pools);
    pool.at = at;
    const recent = taken.filter((each) => each > at - 60_000);
    const answer = pool.lease("ann", { leasesPerMinute: 20 }, { ttlMs: 1000 });
    if (recent.length < 20) expect(answer).toMatchObject(granted);
    else expect(answer).toEqual(over(/leasesPerMinute/, recent.at(-20)! + 60_000 - at)); // There are 20.
    if (recent.length < 20) taken.push(at);
  }
  expect(taken.length).toBeGreaterThan(100);
  expect(taken.length).toBeLessThan(350);
});

test("counts all pools of the process together", () => {
  const quotas = new Quotas();
  const [web, shop] = [new Led("web", quotas), new Led("shop", quotas)];
  const open = { openLeases: 2 };
  const taken = web.lease("ann", open, { ttlMs: 5000 });
  expect(shop.lease("ann", open, { ttlMs: 9000 })).toMatchObject(granted);
  for (const pool of [web, shop]) expect(pool.lease("ann", open)).toEqual(over(/openLeases/, 5000));
  expect(shop.lease("ann", { leasesPerMinute: 2 })).toEqual(over(/leasesPerMinute/, 60_000));
  web.release(taken);
  expect(shop.lease("ann", open)).toMatchObject(granted);
});

test("the next leader continues the counts, from the ledger alone", () => {
  const quota = { openLeases: 2, leasesPerMinute: 3 };
  const before = new Led("web", new Quotas());
  before.at += 1000;
  before.lease("ann", quota, { ttlMs: 40_000 });
  before.at += 1000;
  before.release(before.lease("ann", quota));
  before.lease("ann", quota, { ttlMs: 40_000 });
  const state = restore(JSON.parse(JSON.stringify(snapshotOf(before.engine.state))));
  const after = new Led("web", new Quotas(), { state });
  expect(after.lease("ann", quota)).toEqual(over(/openLeases/, 39_000));
  expect(after.lease("ann", { leasesPerMinute: 3 })).toEqual(over(/leasesPerMinute/, 59_000));
  expect(after.lease("ann", { leasesPerMinute: 4 })).toMatchObject(granted);
});

test("a pool that leaves the process takes its counts along, and brings them back", () => {
  const quotas = new Quotas();
  const quota = { openLeases: 2, leasesPerMinute: 2 };
  const web = new Led("web", quotas);
  const shop = new Led("shop", quotas, { policy: { ...free, concurrency: 1 } });
  shop.lease("ann", quota);
  web.lease("ann", quota);
  expect(web.lease("ann", quota)).toEqual(over(/openLeases/, 90_000));
  shop.engine.end();
  shop.engine.end();
  const second = web.lease("ann", quota);
  expect(second).toMatchObject(granted);
  web.release(second);
  new Led("shop", quotas, { state: shop.engine.state });
  expect(web.lease("ann", quota)).toEqual(over(/openLeases/, 90_000));
});

test("waiting requests: refuses one more, each copy of one included", () => {
  const quotas = new Quotas();
  const policy = { ...free, concurrency: 1 };
  const [web, shop] = [new Led("web", quotas, { policy }), new Led("shop", quotas, { policy })];
  for (const pool of [web, shop]) pool.lease("bob");
  const quota = { waitingRequests: 3 };
  const requestId = "4b1f4a70-0000-4000-8000-000000000001";
  expect(web.lease("ann", quota, { waitMs: 20_000, requestId })).toBeUndefined();
  expect(web.lease("ann", quota, { waitMs: 20_000, requestId })).toBeUndefined();
  expect(shop.lease("ann", quota, { waitMs: 5000 })).toBeUndefined();
  const refused = over(/^ann has reached the quota waitingRequests: at most 3 waiting requests\.$/, 5000);
  for (const pool of [web, shop]) expect(pool.lease("ann", quota, { waitMs: 30_000 })).toEqual(refused);
  expect(web.lease("ann", quota, { waitMs: 20_000, requestId })).toEqual(refused);
  expect(web.lease("ann", quota)).toMatchObject({ refusal: { code: "pool-exhausted" } });
  expect(web.lease("cat", { waitingRequests: 1 }, { waitMs: 30_000 })).toBeUndefined();
  for (let i = 0; i < 2; i++) web.turn([{ type: "cancel", requestId }]);
  expect(web.lease("ann", quota, { waitMs: 30_000 })).toBeUndefined();
});

test("a waiting request counts as waiting until it has its lease, which then counts as open", () => {
  const pool = new Led("web", new Quotas(), { policy: { ...free, concurrency: 1 } });
  const quota = { openLeases: 1, waitingRequests: 2 };
  const first = pool.lease("bob");
  pool.leases("ann", quota, [{ waitMs: 30_000 }, { waitMs: 30_000 }]);
  pool.release(first);
  const answers = [...pool.answers.values()].slice(-2);
  expect(answers).toContainEqual(expect.objectContaining(granted));
  // Its turn comes when the proxy is free again. By then its user has a lease.
  pool.release(answers.find((answer) => "lease" in answer));
  expect(pool.lease("ann", quota, { waitMs: 30_000 })).toEqual(over(/openLeases/, 90_000));
});

test("a waiting request is not refused because of a lease that is due to end", () => {
  const quota = { openLeases: 1 };
  const pool = new Led("web", new Quotas(), { policy: { ...free, concurrency: 1 }, proxies: 601 });
  const bodies = Array.from({ length: 601 }, () => ({ ttlMs: 10_000 }));
  const [first] = pool.leases("bob", undefined, bodies);
  pool.leases("ann", quota, [{ waitMs: 60_000, ttlMs: 10_500 }, { waitMs: 60_000 }]);
  pool.release(first);
  const answered = pool.answers.size;
  pool.at += 11_000;
  pool.turn([]); // Only 500 leases end in a turn, and the lease of ann is the last one.
  expect(pool.answers.size).toBe(answered);
  pool.turn([]);
  expect([...pool.answers.values()].at(-1)).toMatchObject(granted);
});

test("counts a user whose quota is set while it works with its leases so far", () => {
  const pool = new Led("web", new Quotas(), { policy: { ...free, concurrency: 2 } });
  for (let i = 0; i < 2; i++) pool.lease("ann");
  pool.lease("ann", undefined, { waitMs: 9000 });
  expect(pool.lease("ann", { openLeases: 2 })).toEqual(over(/openLeases/, 90_000));
  expect(pool.lease("ann", { waitingRequests: 1 }, { waitMs: 20_000 })).toEqual(over(/waitingRequests/, 9000));
  expect(pool.lease("ann", { leasesPerMinute: 2 })).toEqual(over(/leasesPerMinute/, 60_000));
});

test("a repeated request for an open lease gets that lease, even at a quota", () => {
  const pool = new Led("web", new Quotas());
  const quota = { openLeases: 1, leasesPerMinute: 1 };
  const requestId = "4b1f4a70-0000-4000-8000-000000000002";
  const lease = pool.lease("ann", quota, { requestId });
  expect(pool.lease("ann", quota, { requestId })).toEqual(lease);
});
