// A pool in virtual time, for tests of the rules: commands in, facts or a refusal out. Every event is also folded
// through JSON into a second state, as a reader of the ledger would do. The two states must stay equal.
import { isDeepStrictEqual } from "node:util";
import { expect } from "vitest";
import type { Event } from "../../events/event.ts";
import type { Limits } from "../../events/policy.ts";
import { parseProxyLine } from "../../lists/line.ts";
import { type LeaseReply, leaseRequestSchema, type ReleaseReply } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import type { ProxyReply } from "../../protocol/proxy.ts";
import { isRefusal, type Refusal } from "../../protocol/refusal.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import type { Answer, Command } from "../../state-machines/command.ts";
import { changePolicy, open } from "../../state-machines/decide/pool.ts";
import { add } from "../../state-machines/decide/proxy.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { recordSkipped } from "../../state-machines/decide/token.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { decide } from "../../state-machines/decide.ts";
import { advance, endCommit, foldCommit } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { viewLease, viewProxy } from "../../state-machines/view.ts";

export type Granted = Omit<LeaseReply, "url" | "password">;

export class TestPool {
  readonly state = new PoolState("test");
  readonly candidates = new Candidates(this.state);
  at = 1_000_000;
  /** For the next turns. */
  chance = "00000000000000000000000000000001";
  /** Facts of the last command. */
  facts: Event[] = [];
  readonly #replayed = new PoolState("test");
  #leases = 0;
  #ids = 0;

  constructor(policy: Record<string, unknown> = {}) {
    const opened = this.turn((turn) => {
      decide(turn, { type: "claim", leader: "leader-1" });
      return open(turn, { policy, keyFingerprint: "key" });
    });
    if ("refusal" in opened) throw new Error(opened.refusal.message);
  }

  /** Adds proxies by their lines, with the same labels and limits; returns their ids. */
  add(lines: string[], given: { labels?: Record<string, string>; limits?: Limits } = {}): string[] {
    const newcomers = lines.map((line) => {
      const [entry] = parseProxyLine(line);
      if (entry?.ok !== true) throw new Error(`${line} is not a proxy`);
      const { labels, password: _password, ...address } = entry.proxy;
      const id = `p_${`${address.host}_${address.port}`.replaceAll(/[.:]/g, "_").padStart(16, "0").slice(-16)}`;
      const newcomer = { id, address, labels: { ...labels, ...given.labels }, allLabels: given.labels !== undefined };
      return given.limits === undefined ? newcomer : { ...newcomer, limits: given.limits };
    });
    this.turn((turn) => newcomers.map((newcomer) => add(turn, newcomer)));
    return newcomers.map(({ id }) => id);
  }

  /** One command in a turn of its own. It is repeated if something else had to be decided first. */
  decide(command: Command): Answer {
    for (;;) {
      const answer = this.turn((turn) => decide(turn, command));
      if (answer !== "later") return answer;
    }
  }

  lease(body: Record<string, unknown> = {}): Granted | Refusal {
    const leaseId = `l_${String(++this.#leases).padStart(22, "0")}`;
    const request = leaseRequestSchema.parse(body);
    return this.#leased(this.decide({ type: "lease", request, leaseId, deadline: 0 }));
  }

  /** A lease that must be granted. */
  granted(request: Record<string, unknown> = {}): Granted {
    const lease = this.lease(request);
    if (isRefusal(lease)) throw new Error(`refused: ${JSON.stringify(lease)}`);
    return lease;
  }

  refused(request: Record<string, unknown> = {}): Refusal {
    const lease = this.lease(request);
    if (!isRefusal(lease)) throw new Error(`granted: ${JSON.stringify(lease)}`);
    return lease;
  }

  report(lease: { leaseId: string }, seen: Record<string, unknown>, storedAt?: number): Answer {
    const outcome = outcomeSchema.parse({ leaseId: lease.leaseId, ...seen });
    return this.decide({ type: "report", outcome, ...(storedAt === undefined ? {} : { storedAt }) });
  }

  release({ leaseId }: { leaseId: string }, used?: number): ReleaseReply | Refusal {
    const answer = this.decide({ type: "release", leaseId, used });
    if ("released" in answer) return answer.released;
    if ("refusal" in answer) return answer.refusal;
    throw new Error(`not an answer to a release: ${JSON.stringify(answer)}`);
  }

  renew({ leaseId }: { leaseId: string }, ttlMs?: number): Granted | Refusal {
    return this.#leased(this.decide({ type: "renew", leaseId, ttlMs }));
  }

  retire(proxyId: string): boolean {
    return this.#changed({ type: "retire", proxyId, reason: undefined });
  }

  rest(proxyId: string, forMs: number): boolean {
    return this.#changed({ type: "rest", proxyId, forMs, note: undefined });
  }

  revive(proxyId: string): boolean {
    return this.#changed({ type: "revive", proxyId });
  }

  policy(policy: Record<string, unknown>) {
    return this.turn((turn) => changePolicy(turn, { policy }));
  }

  proxy(id: string): ProxyReply {
    return viewProxy(this.state, this.#proxy(id));
  }

  /** Moves time forward. Everything that becomes due on the way happens when it is due. */
  wait(ms: number): void {
    const end = this.at + ms;
    for (let due = wakeAt(this.state); due <= end; due = wakeAt(this.state)) {
      this.at = Math.max(this.at, due);
      while (!this.turn((turn) => tick(turn)));
    }
    this.at = end;
    this.turn(() => true);
  }

  types(): string[] {
    return this.facts.map((event) => ("state" in event ? `${event.type}.${event.state}` : event.type));
  }

  #leased(answer: Answer): Granted | Refusal {
    if ("lease" in answer) return viewLease(this.state, answer.lease, this.at);
    if ("refusal" in answer) return answer.refusal;
    throw new Error(`not an answer about a lease: ${JSON.stringify(answer)}`);
  }

  #changed(command: Command & { proxyId: string }): boolean {
    this.#proxy(command.proxyId);
    const answer = this.decide(command);
    return "proxy" in answer && answer.proxy === "changed";
  }

  #proxy(id: string) {
    const proxy = this.state.proxies.get(id);
    if (proxy === undefined) throw new Error(`${id} is not known`);
    return proxy;
  }

  /**
   * One turn of a leader's loop, whatever it decides. Not `Engine.turn`: that would also do what time has made due and
   * record refusals, and each test says itself when these happen.
   */
  turn<T>(decide: (turn: Turn) => T): T {
    const newId = (): string => `id${String(++this.#ids).padStart(20, "0")}`;
    const turn = new Turn(this.state, { at: this.at, chance: this.chance, newId, candidates: this.candidates });
    const result = decide(turn);
    recordSkipped(turn, turn.skipped);
    this.facts = turn.events;
    if (turn.events.length > 0) {
      const head = { n: this.state.commits + 1, at: this.at, cursor: this.state.cursor };
      endCommit(this.state, head);
      const stored = { v: 2, prev: "", term: 1, ...head, events: JSON.parse(JSON.stringify(turn.events)) };
      foldCommit(this.#replayed, stored);
    }
    advance(this.state, this.at);
    advance(this.#replayed, this.at);
    const [replayed, live] = [snapshotOf(this.#replayed), snapshotOf(this.state)];
    // Vitest's comparison, which reports differences, takes longer than the remainder of a turn.
    if (!isDeepStrictEqual(replayed, live)) expect(replayed).toEqual(live);
    return result;
  }
}

/** Addresses in a block reserved for documentation. */
export function proxyLines(count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, i) => `192.0.2.${from + i}:8080`);
}
