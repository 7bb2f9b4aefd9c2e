// Scripted ledgers: exact requests at exact times, decided by the real decisions.
import { encodeCommit } from "../../events/commit.ts";
import type { LimitedBy } from "../../events/refusal.ts";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { hashOf } from "../../runtime/loop.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { recordOf } from "../../state-machines/decide/grant.ts";
import { grant, release } from "../../state-machines/decide/lease.ts";
import { changePolicy, claim, open } from "../../state-machines/decide/pool.ts";
import { add, retire } from "../../state-machines/decide/proxy.ts";
import { takeUp } from "../../state-machines/decide/report.ts";
import { restByHand } from "../../state-machines/decide/rest.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { endCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

export class Script {
  readonly state = new PoolState("default");
  readonly commits: Buffer[] = [];
  readonly #candidates = new Candidates(this.state);
  #at: number;
  #hash = "";
  #leases = 0;

  /**
   * @param startAt ISO 8601.
   * @param proxies how many: 192.0.2.1 and on.
   */
  constructor(startAt: string, policy: Record<string, unknown>, proxies: number) {
    this.#at = Date.parse(startAt);
    this.turn((turn) => {
      claim(turn, "picker-1");
      const opened = open(turn, { policy, keyFingerprint: "0123456789abcdef" });
      if ("refusal" in opened) throw new Error(opened.refusal.message);
      for (let i = 1; i <= proxies; i++) {
        const labels = { country: i % 2 === 0 ? "FR" : "DE" };
        const address = { scheme: "http" as const, host: `192.0.2.${i}`, port: 8080 };
        add(turn, { id: proxyId(i), address, labels, allLabels: true });
      }
    });
  }

  /** Time passes, and its events happen when they are due. */
  pass(ms: number): void {
    const end = this.#at + ms;
    for (let due = wakeAt(this.state); due <= end; due = wakeAt(this.state)) {
      this.#at = Math.max(due, this.#at);
      this.turn((turn) => void tick(turn));
    }
    this.#at = end;
  }

  /** The lease's id, or "" if it was refused, which is recorded. */
  lease(request: Record<string, unknown> = {}): string {
    const id = `l_${String(++this.#leases).padStart(20, "0")}`;
    let granted = false;
    this.turn((turn) => {
      const result = grant(turn, this.#candidates, leaseRequestSchema.parse(request), id);
      if ("lease" in result) granted = true;
      else if ("refusal" in result) {
        const { code, limitedBy } = result.refusal;
        turn.emit({
          type: "RequestsRefused",
          code,
          count: 1,
          request: recordOf(leaseRequestSchema.parse(request)),
          ...(limitedBy === undefined ? {} : { limitedBy: limitedBy as LimitedBy }),
        });
      }
    });
    return granted ? id : "";
  }

  report(leaseId: string, outcome: Record<string, unknown>): void {
    this.turn((turn) => {
      const taken = takeUp(turn, outcomeSchema.parse({ leaseId, ...outcome }), turn.at);
      if ("ignored" in taken) turn.emit({ type: "OutcomesIgnored", why: taken.ignored, count: 1 });
    });
  }

  release(leaseId: string, used?: number): void {
    this.turn((turn) => void release(turn, { leaseId, used }));
  }

  rest(proxy: number, forMs: number, note: string): void {
    this.turn((turn) => void restByHand(turn, this.state.proxies.get(proxyId(proxy))!, { forMs, note }));
  }

  retire(proxy: number, reason: string): void {
    this.turn((turn) => void retire(turn, this.state.proxies.get(proxyId(proxy))!, reason));
  }

  claim(leader: string): void {
    this.turn((turn) => claim(turn, leader));
  }

  policy(policy: Record<string, unknown>): void {
    this.turn((turn) => void changePolicy(turn, { policy }));
  }

  turn(decide: (turn: Turn) => void): void {
    const turn = new Turn(this.state, { at: this.#at, chance: "0123456789abcdef0123456789abcdef" });
    decide(turn);
    if (turn.events.length === 0) return;
    const cursor = { seq: 0, at: 0 };
    const head = { n: this.state.commits + 1, prev: this.#hash, term: this.state.term, at: this.#at, cursor };
    endCommit(this.state, head);
    const drawn = turn.chance === undefined ? head : { ...head, chance: turn.chance };
    const events = turn.events.map((event) => JSON.stringify(event));
    const bytes = Buffer.from(encodeCommit(drawn, events));
    this.#hash = hashOf(bytes);
    this.commits.push(bytes);
  }
}

export function proxyId(i: number): string {
  return `p_${String(i).padStart(16, "0")}`;
}
