// The candidate index of very many proxies is built turn by turn. It must give the same answers as one that is built at
// once.
import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import type { CandidateIndex } from "../../state-machines/candidates/candidate-index.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { grant } from "../../state-machines/decide/lease.ts";
import { changePolicy, open } from "../../state-machines/decide/pool.ts";
import { add, retire } from "../../state-machines/decide/proxy.ts";
import { ingest } from "../../state-machines/decide/report.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

const chance = "0123456789abcdef0123456789abcdef";
const german = leaseRequestSchema.parse({ labels: { country: "DE" } });
const idOf = (i: number) => `p_${String(i).padStart(16, "0")}`;

class Proxies {
  readonly state = new PoolState("test");
  readonly candidates = new Candidates(this.state);
  #at = 1_000_000;
  #leases = 0;

  constructor(count: number) {
    this.turn((turn) => open(turn, { policy: {}, keyFingerprint: "key" }));
    for (let i = 0; i < count; i++) this.add(i);
  }

  /** Every tenth proxy shares its exit with nine others, unless an exit is given. */
  add(i: number, exit = i % 10 === 0 ? `198.51.100.${(i / 10) % 200}` : undefined): void {
    const address = { scheme: "http", host: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, port: 80 } as const;
    const labels = { country: i % 2 === 0 ? "DE" : "FR", ...(exit === undefined ? {} : { exit }) };
    this.turn((turn) => add(turn, { id: idOf(i), address, labels, allLabels: true }));
  }

  retire(i: number): void {
    this.turn((turn) => retire(turn, this.state.proxies.get(idOf(i))!, {})); // Added before.
  }

  use(status: number): void {
    const leaseId = `l_${String(++this.#leases).padStart(22, "0")}`;
    const candidates = new Candidates(this.state);
    const turn = new Turn(this.state, { at: ++this.#at, chance, candidates });
    grant(turn, { request: leaseRequestSchema.parse({}), leaseId });
    this.turn((turn) => ingest(turn, { leaseId, status }, turn.at));
    this.state.watcher = this.candidates;
    for (const proxy of this.state.proxies.values()) if (proxy.granted > 0) this.candidates.proxyChanged(proxy);
  }

  turn<T>(decide: (turn: Turn) => T): T {
    return decide(new Turn(this.state, { at: ++this.#at, chance, candidates: this.candidates }));
  }
}

const numbersOf = (index: CandidateIndex | undefined) =>
  index && { size: index.size, leasable: index.leasable, held: index.held, ready: index.ready.size };

/** The answers of an index that is built at once. */
function anew(state: PoolState) {
  const { watcher } = state;
  const index = new Candidates(state).indexFor(german);
  const said = { ...numbersOf(index), first: index?.choose(new Set()) };
  state.watcher = watcher;
  return said;
}

describe("a candidate index of very many proxies", () => {
  test("is ready at once if there are few proxies", () => {
    const { candidates } = new Proxies(100);
    expect(candidates.isReady(german)).toBe(true);
    expect(candidates.build()).toBe(false);
  });

  test("is built in slices, and includes proxies that are added, retired, moved or fail meanwhile", () => {
    const proxies = new Proxies(25_000);
    const { candidates, state } = proxies;
    expect(candidates.isReady(german)).toBe(false);
    expect(candidates.build()).toBe(true);
    expect(candidates.isReady(german)).toBe(false);
    proxies.add(25_000);
    proxies.add(0, "203.0.113.1"); // Visited already, and now of another exit.
    proxies.add(24_000, "203.0.113.1"); // Not visited yet.
    proxies.retire(2);
    proxies.retire(24_002);
    proxies.use(500);
    proxies.use(403);
    while (candidates.build());
    expect(candidates.isReady(german)).toBe(true);
    const index = candidates.indexFor(german);
    expect({ ...numbersOf(index), first: index?.choose(new Set()) }).toEqual(anew(state));
    expect(index?.size).toBe(12_501 - 2);
  });

  test("is finished at once if it is needed before it is ready", () => {
    const { candidates, state } = new Proxies(25_000);
    candidates.isReady(german);
    candidates.build();
    expect(numbersOf(candidates.indexFor(german))).toMatchObject({ size: 12_500 });
    expect(candidates.build()).toBe(false);
    expect(anew(state)).toMatchObject(numbersOf(candidates.indexFor(german)) ?? {});
  });

  test("is rebuilt in slices after a change of policy, and equals one that is built at once", () => {
    const proxies = new Proxies(25_000);
    const { candidates, state } = proxies;
    candidates.indexFor(german);
    expect(candidates.isRebuilding).toBe(false);
    proxies.turn((turn) => changePolicy(turn, { policy: { strategy: { kind: "lifo" } } }));
    expect([candidates.isRebuilding, candidates.isReady(german)]).toEqual([true, false]);
    let slices = 0;
    for (; candidates.isRebuilding; slices++) expect(candidates.build()).toBe(true);
    expect(slices).toBeGreaterThan(1);
    expect([candidates.isReady(german), candidates.build()]).toEqual([true, false]);
    const index = candidates.indexFor(german);
    expect({ ...numbersOf(index), first: index?.choose(new Set()) }).toEqual(anew(state));
  });

  test("is rebuilt at once after a change of policy if there are few proxies", () => {
    const proxies = new Proxies(100);
    proxies.candidates.indexFor(german);
    proxies.turn((turn) => changePolicy(turn, { policy: { strategy: { kind: "lifo" } } }));
    expect([proxies.candidates.isRebuilding, proxies.candidates.isReady(german)]).toEqual([false, true]);
  });

  test("keeps indexes that are being built; a request for one too many is refused at once", () => {
    const { candidates } = new Proxies(10_001);
    const requests = Array.from({ length: 129 }, (_, i) => leaseRequestSchema.parse({ labels: { n: String(i) } }));
    const last = requests.pop()!; // There are 129.
    for (const request of requests) expect(candidates.isReady(request)).toBe(false);
    expect(candidates.isReady(last)).toBe(true);
    expect(candidates.indexFor(last)).toBeUndefined();
  });

  test("gives each token request all its indexes in turn, or refuses it until then, when there are too many kinds", () => {
    const proxies = new Proxies(10_001);
    const { candidates } = proxies;
    const source = { url: "http://127.0.0.1:9/guest", value: { jsonPointer: "/token" } };
    proxies.turn((turn) => changePolicy(turn, { policy: { token: { scope: "proxy", source } } }));
    let waiting = Array.from({ length: 60 }, (_, i) =>
      leaseRequestSchema.parse({ labels: { n: String(i) }, token: true }),
    );
    let refused = 0;
    for (let turns = 0; waiting.length > 0; turns++) {
      expect(turns).toBeLessThan(500);
      waiting = waiting.filter((request) => {
        if (!candidates.isReady(request)) return true;
        const indexes = candidates.indexesFor(request);
        if (indexes === undefined) refused++;
        else expect(candidates.indexesFor(request)).toEqual(indexes);
        return indexes === undefined;
      });
      candidates.build();
    }
    expect(refused).toBeGreaterThan(0);
  });

  test("counts a proxy that moves between exits only at its new exit", () => {
    const proxies = new Proxies(300);
    const before = proxies.candidates.indexFor(german);
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    for (let step = 0; step < 400; step++) {
      const i = random(300);
      if (step % 9 === 8) proxies.retire(i);
      else proxies.add(i, `203.0.113.${random(5)}`);
      if (step % 20 === 19) proxies.use(step % 40 === 19 ? 200 : 403);
      const index = proxies.candidates.indexFor(german);
      expect(index).toBe(before);
      expect({ ...numbersOf(index), first: index?.choose(new Set()) }).toEqual(anew(proxies.state));
    }
  });
});
