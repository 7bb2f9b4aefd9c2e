// Scripted ledgers: exact requests at exact times, decided by the engine.
import { encodeCommit } from "../../events/commit.ts";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Answer, Request } from "../../state-machines/command.ts";
import { Engine } from "../../state-machines/engine.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

export class Script {
  readonly state = new PoolState("default");
  readonly commits: Buffer[] = [];
  readonly #engine = new Engine<undefined>(this.state);
  #at: number;
  #hash = "";
  #leases = 0;

  /**
   * @param startAt ISO 8601.
   * @param proxies how many: 192.0.2.1 and on.
   */
  constructor(startAt: string, policy: Record<string, unknown>, proxies: number) {
    this.#at = Date.parse(startAt);
    this.#engine.catchUp(undefined);
    const open: Request = { type: "open", policy, keyFingerprint: "0123456789abcdef" };
    const added = Array.from({ length: proxies }, (_, i) =>
      addition(proxyId(i + 1), `192.0.2.${i + 1}`, {
        country: i % 2 === 0 ? "DE" : "FR",
      }),
    );
    const [opened] = this.#turn([open, ...added], "picker-1");
    if (opened !== undefined && "refusal" in opened) throw new Error(opened.refusal.message);
  }

  /** Time passes, and its events happen when they are due. */
  pass(ms: number): void {
    const end = this.#at + ms;
    for (let due = this.#engine.wakeAt(); due <= end; due = this.#engine.wakeAt()) {
      this.#at = Math.max(due, this.#at);
      this.#turn([]);
    }
    this.#at = end;
  }

  /** The lease's id, or "" if it was refused, which is recorded. */
  lease(request: Record<string, unknown> = {}): string {
    const leaseId = `l_${String(++this.#leases).padStart(20, "0")}`;
    const answer = this.do({ type: "lease", request: leaseRequestSchema.parse(request), leaseId, deadline: 0 });
    return answer !== undefined && "lease" in answer ? leaseId : "";
  }

  report(leaseId: string, outcome: Record<string, unknown>): void {
    this.do({ type: "report", outcome: outcomeSchema.parse({ leaseId, ...outcome }) });
  }

  release(leaseId: string, used?: number): void {
    this.do({ type: "release", leaseId, used });
  }

  rest(proxy: number, forMs: number, note: string): void {
    this.do({ type: "rest", proxyId: proxyId(proxy), forMs, note });
  }

  retire(proxy: number, reason: string): void {
    this.do({ type: "retire", proxyId: proxyId(proxy), reason });
  }

  claim(leader: string): void {
    this.#turn([], leader);
  }

  policy(policy: Record<string, unknown>): void {
    this.do({ type: "change-policy", policy });
  }

  /** One request in a turn of its own. */
  do(request: Request): Answer | undefined {
    return this.#turn([request])[0];
  }

  #turn(requests: Request[], claim?: string): Answer[] {
    const { answers, events, cursor, chance } = this.#engine.turn({
      at: this.#at,
      chance: "0123456789abcdef0123456789abcdef",
      newId: () => "0".repeat(22),
      claim,
      outcomes: [],
      requests: requests.map((request) => ({ to: undefined, request })),
      hasRoom: () => true,
      proven: false,
    });
    if (events.length > 0) {
      const { commits: n, term } = this.state;
      const head = { n, prev: this.#hash, term, at: this.#at, cursor, ...(chance === undefined ? {} : { chance }) };
      const bytes = Buffer.from(
        encodeCommit(
          head,
          events.map((event) => JSON.stringify(event)),
        ),
      );
      this.#hash = hashOf(bytes);
      this.commits.push(bytes);
    }
    return answers.map(({ answer }) => answer);
  }
}

export function proxyId(i: number): string {
  return `p_${String(i).padStart(16, "0")}`;
}

/** A command that adds a proxy, with these as all its labels. */
export function addition(id: string, host: string, labels: Record<string, string>) {
  const address = { scheme: "http" as const, host, port: 8080 };
  return { type: "add" as const, newcomer: { id, address, labels, allLabels: true } };
}
