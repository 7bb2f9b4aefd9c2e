// Makes ledgers in virtual time through the real decisions: requests, outcomes in time, late and missing, releases,
// renewals, added and removed proxies, manual rests, policy changes. Everything comes from one seed. The result is the
// bytes of commits, chained as a leader chains them.
import { type Random, randomOf } from "../demo/random.ts";
import { encodeCommit } from "../events/commit.ts";
import type { RecordedRequest } from "../events/lease.ts";
import type { LimitedBy, RefusalWord } from "../events/refusal.ts";
import { reasons } from "../events/words.ts";
import { leaseRequestSchema } from "../protocol/lease.ts";
import { outcomeSchema } from "../protocol/outcome.ts";
import { hashOf } from "../runtime/loop.ts";
import { Candidates } from "../state-machines/candidates/candidates.ts";
import { recordOf } from "../state-machines/decide/grant.ts";
import { tick, wakeAt } from "../state-machines/decide/timers.ts";
import { Turn } from "../state-machines/decide/turn.ts";
import { decide } from "../state-machines/decide.ts";
import { endCommit } from "../state-machines/fold/evolve.ts";
import { PoolState } from "../state-machines/fold/state.ts";

export interface MakerOptions {
  seed: number;
  proxies: number;
  policy?: Record<string, unknown>;
  /** Policies that it changes to occasionally. */
  otherPolicies?: readonly Record<string, unknown>[];
  /** The most requests in a turn. */
  requestsPerTurn: number;
  /** The longest time between two turns. */
  pauseMs: number;
  /** How many of a hundred turns do something unusual. */
  chaos: number;
  /** How many of a hundred uses fail. */
  failures: number;
  startAt?: number;
  /** Lease requests with options: sessions, holders, labels, a minimum of several uses. */
  names?: boolean;
  /** Refusals are recorded, as a leader records them. */
  refusals?: boolean;
}

interface Held {
  leaseId: string;
  uses: number;
  next: number;
  dueAt: number;
}

export class LedgerMaker {
  readonly state = new PoolState("default");
  readonly #candidates = new Candidates(this.state);
  readonly #options: MakerOptions;
  readonly #held: Held[] = [];
  /** Leases without a live worker: reported late, or twice. */
  readonly #past: Held[] = [];
  #at: number;
  #hash = "";
  readonly #random: Random;
  #leases = 0;
  #outcomes = 0;
  #newcomers = 0;
  #refused = new Map<RefusalWord, { count: number; limitedBy: LimitedBy | undefined; request: RecordedRequest }>();
  events = 0;

  constructor(options: MakerOptions) {
    this.#options = options;
    this.#random = randomOf(options.seed);
    this.#at = options.startAt ?? 1_700_000_000_000;
  }

  /** The next commit's bytes. */
  next(): Buffer {
    for (;;) {
      const bytes = this.state.commits === 0 ? this.#turn((turn) => this.#begin(turn)) : this.#busyTurn();
      if (bytes !== undefined) return bytes;
    }
  }

  #begin(turn: Turn): void {
    const { policy, proxies } = this.#options;
    decide(turn, { type: "claim", leader: "picker-1" });
    const opened = decide(turn, { type: "open", policy, keyFingerprint: "0123456789abcdef" });
    if (opened !== "later" && "refusal" in opened) throw new Error(opened.refusal.message);
    for (let i = 0; i < proxies; i++) this.#add(turn);
  }

  #busyTurn(): Buffer | undefined {
    const { pauseMs, requestsPerTurn, chaos } = this.#options;
    const end = this.#at + this.#int(0, pauseMs);
    // Due events happen on time, as with the leader's timer.
    this.#at = Math.max(this.#at, Math.min(end, wakeAt(this.state)));
    if (this.#at < end) return this.#turn((turn) => void tick(turn));
    return this.#turn((turn) => {
      this.#report(turn);
      const settled = tick(turn);
      if (chaos > 0 && this.#int(1, 100) <= chaos) this.#disturb(turn);
      for (let i = this.#int(0, requestsPerTurn); i > 0 && settled; i--) this.#request(turn);
    });
  }

  #request(turn: Turn): void {
    const uses =
      this.#options.chaos > 0 && this.#int(1, 10) === 1 ? this.#int(1, Math.min(6, this.state.rules.usesMax)) : 1;
    const id = String(++this.#leases).padStart(12, "0");
    const request = leaseRequestSchema.parse({
      requestId: `00000000-0000-4000-8000-${id}`,
      ...(uses === 1 ? {} : { uses }),
      ...(this.#options.names === true ? this.#named(uses) : {}),
    });
    const leaseId = `l_${id}`.padEnd(24, "x");
    const answer = decide(turn, { type: "lease", request: request, leaseId, deadline: 0 });
    if (answer === "later") return;
    if ("refusal" in answer && this.#options.refusals === true) {
      const { code, limitedBy } = answer.refusal;
      const count = (this.#refused.get(code)?.count ?? 0) + 1;
      this.#refused.set(code, { count, limitedBy, request: recordOf(request) });
    }
    if (!("lease" in answer)) return;
    const { lease } = answer;
    this.#held.push({ leaseId: lease.id, uses: lease.uses, next: 1, dueAt: this.#at + this.#int(1, 400) });
  }

  #named(uses: number): Record<string, unknown> {
    return {
      ...(this.#int(1, 3) === 1 ? { session: `s${this.#int(1, 9)}` } : {}),
      ...(this.#int(1, 3) === 1 ? { holder: `worker-${this.#int(1, 4)}` } : {}),
      ...(this.#int(1, 4) === 1 ? { minUses: this.#int(1, uses) } : {}),
      ...(this.#int(1, 6) === 1 ? { labels: { country: this.#int(1, 2) === 1 ? "DE" : "FR" } } : {}),
      ...(this.#int(1, 3) === 1 ? { target: `shop-${this.#int(1, 3)}.example` } : {}),
      ...(this.#int(1, 9) === 1 ? { exclude: [`p_${String(this.#int(0, 3)).padStart(16, "0")}`] } : {}),
    };
  }

  #report(turn: Turn): void {
    let kept = 0;
    for (const held of this.#held) {
      if (held.dueAt > this.#at) {
        this.#held[kept++] = held;
        continue;
      }
      const fate = this.#options.chaos > 0 ? this.#int(1, 100) : 50;
      if (fate <= 2)
        this.#past.push(held); // Its worker died with it.
      else if (fate <= 4 && held.next > 1)
        decide(turn, { type: "release", leaseId: held.leaseId, used: held.next - 1 });
      else if (fate === 5) decide(turn, { type: "renew", leaseId: held.leaseId });
      else this.#outcome(turn, held, fate === 6 && held.uses > 1);
      if (fate > 2 && held.next <= held.uses && this.state.leases.has(held.leaseId)) {
        held.dueAt = this.#at + this.#int(1, 400);
        this.#held[kept++] = held;
      } else if (fate === 7) this.#past.push(held);
    }
    this.#held.length = kept;
    if (this.#past.length > 20)
      for (const held of this.#past.splice(0, this.#int(1, 20))) this.#outcome(turn, held, false);
  }

  #outcome(turn: Turn, held: Held, final: boolean): void {
    const failed = this.#int(1, 1000) <= this.#options.failures * 10;
    const reason = reasons[this.#int(0, reasons.length - 1)];
    const seen = failed
      ? { result: "failure", reason, ...(reason === "throttled" ? { retryAfterMs: this.#int(0, 5000) } : {}) }
      : { status: 200, latencyMs: this.#int(20, 900) };
    const outcome = outcomeSchema.parse({
      leaseId: held.leaseId,
      n: held.next++,
      ...seen,
      ...(final ? { final: true } : {}),
    });
    decide(turn, { type: "report", outcome, storedAt: this.#at - this.#int(0, 3) });
    this.#outcomes++;
  }

  #disturb(turn: Turn): void {
    const proxies = [...this.state.proxies.values()];
    const proxy = proxies[this.#int(0, proxies.length - 1)];
    if (proxy === undefined) return;
    const { otherPolicies = [] } = this.#options;
    switch (this.#int(1, 8)) {
      case 1:
        decide(turn, { type: "rest", proxyId: proxy.id, forMs: this.#int(1, 10_000), note: "by the maker" });
        return;
      case 2:
        decide(turn, { type: "revive", proxyId: proxy.id });
        return;
      case 3:
        decide(turn, { type: "retire", proxyId: proxy.id, reason: undefined });
        return;
      case 4:
        return this.#add(turn);
      case 5:
      case 6: {
        // Added again, or changed: with another exit, and its own limits.
        const { id, scheme, host, port } = proxy;
        const labels = { kind: "again", ...(this.#int(1, 3) === 1 ? { exit: `192.0.2.${this.#int(1, 4)}` } : {}) };
        const limits = this.#int(1, 3) === 1 ? { concurrency: this.#int(1, 3) } : undefined;
        const newcomer = { id, address: { scheme, host, port }, labels, allLabels: true, limits };
        decide(turn, { type: "add", newcomer });
        return;
      }
      case 7: {
        const policy = otherPolicies[this.#int(0, Math.max(0, otherPolicies.length - 1))];
        if (policy !== undefined) decide(turn, { type: "change-policy", policy });
        return;
      }
      default:
        this.#claimed = true;
    }
  }

  /** Another leader takes over with the next commit. */
  #claimed = false;

  #add(turn: Turn): void {
    const i = this.#newcomers++;
    const host = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
    const id = `p_${String(i).padStart(16, "0")}`;
    const labels = { country: i % 2 === 0 ? "DE" : "FR" };
    const address = { scheme: "http" as const, host, port: 8080 };
    decide(turn, { type: "add", newcomer: { id, address, labels, allLabels: true } });
  }

  #turn(play: (turn: Turn) => void): Buffer | undefined {
    const chance = [0, 1, 2, 3].map(() => this.#bits().toString(16).padStart(8, "0")).join("");
    const turn = new Turn(this.state, { at: this.#at, chance, candidates: this.#candidates });
    if (this.#claimed) decide(turn, { type: "claim", leader: `picker-${this.state.term + 1}` });
    this.#claimed = false;
    play(turn);
    for (const [code, { limitedBy, ...rest }] of this.#refused)
      turn.emit({ type: "RequestsRefused", code, ...rest, ...(limitedBy === undefined ? {} : { limitedBy }) });
    this.#refused.clear();
    if (turn.events.length === 0) return undefined;
    const cursor = { seq: this.#outcomes, at: this.#at };
    const head = { n: this.state.commits + 1, prev: this.#hash, term: this.state.term, at: this.#at, cursor };
    endCommit(this.state, head);
    this.events += turn.events.length;
    const drawn = turn.chance === undefined ? head : { ...head, chance: turn.chance };
    const bytes = Buffer.from(
      encodeCommit(
        drawn,
        turn.events.map((event) => JSON.stringify(event)),
      ),
    );
    this.#hash = hashOf(bytes);
    return bytes;
  }

  #int(low: number, high: number): number {
    return low + (this.#bits() % (high - low + 1));
  }

  #bits(): number {
    return this.#random() * 2 ** 32; // A whole number.
  }
}
