// Ledgers of pools with guest tokens, for tests of the audit.
import { encodeCommit } from "../../events/commit.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import { proxyLines } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";
import { TokenPool } from "../kit/token-pool.ts";

/** A pool whose turns are kept as the commits of a ledger. */
export class Recorded extends TokenPool {
  // Made with the first turn, which comes before this class has fields.
  declare commits: Buffer[];

  override turn<T>(decide: (turn: Turn) => T): T {
    const result = super.turn(decide);
    this.commits ??= [];
    if (this.facts.length === 0) return result;
    const last = this.commits.at(-1);
    const n = this.commits.length + 1;
    const prev = last === undefined ? "" : hashOf(last);
    const head = { n, prev, term: 1, at: this.at, cursor: { seq: 0, at: 0 }, chance: this.chance };
    this.commits.push(
      Buffer.from(
        encodeCommit(
          head,
          this.facts.map((event) => JSON.stringify(event)),
        ),
      ),
    );
    return result;
  }
}

/** Tokens that are requested, minted, refused and rejected at random. */
export function randomPool(seed: number): Recorded {
  const random = seeded(seed);
  const scope = seed % 2 === 0 ? "pool" : "proxy";
  const token = { scope, minAgeMs: 5000, refreshAheadMs: seed % 3 === 0 ? 4000 : 0, unavailableAfter: 2 };
  const source = { url: "http://127.0.0.1:9/guest", value: { jsonPointer: "/t" }, life: { ms: 30_000 } };
  const pool = new Recorded({ ...token, source }, { strategy: { kind: random.pick(["best", "lifo", "random"]) } });
  pool.add(proxyLines(random.int(1, 5)));
  const given: { leaseId: string; tokenId: string }[] = [];
  for (let step = 0; step < 120; step++) {
    const [request] = pool.fetching;
    const what = random.int(1, 10);
    if (what <= 4) {
      const lease = pool.lease({ token: random.chance(0.8) });
      if ("leaseId" in lease) {
        const tokenId = pool.state.leases.get(lease.leaseId)?.token?.tokenId ?? "";
        given.push({ leaseId: lease.leaseId, tokenId });
      }
    } else if (what <= 6 && request !== undefined)
      pool.minted(random.chance(0.5) ? random.int(6000, 60_000) : undefined, request);
    else if (what === 7 && request !== undefined) pool.failed("status", request);
    else if (given.length > 0) {
      const { leaseId } = given.splice(random.int(0, given.length - 1), 1)[0]!; // There is one.
      pool.report({ leaseId }, { n: 1, status: 200, ...(random.chance(0.5) ? { tokenRejected: true } : {}) });
    }
    pool.wait(random.int(1, 3000));
  }
  return pool;
}
