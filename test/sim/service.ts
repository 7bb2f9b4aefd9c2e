// The service in the simulator: the real leader, requests, rules and loop, on a ledger in memory whose commits may be
// lost, unanswered, or land late; killed at any await, restarted, and sometimes doubled.

import type { LeaderVerb, PoolVerb } from "../../events/subjects.ts";
import type { Head, Ledger, StoredCommit } from "../../runtime/ledger.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Leader, type OutcomeFeed, type OutcomeMessage } from "../../services/picker/leader.ts";
import { Requests } from "../../services/picker/requests.ts";
import type { World } from "./world.ts";

export interface Faults {
  /** Chances per commit. */
  unanswered: number;
  lost: number;
  late: number;
}

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "the simulator's key");
export const pool = "sim";

/** One life of a leader: what it holds dies with it. */
interface Life {
  alive: boolean;
  leader?: Leader;
  requests?: Requests;
}

export class SimService {
  readonly ledger: MemoryLedger;
  readonly outcomes: OutcomeMessage[] = [];
  faults: Faults;
  kills = 0;
  takeovers = 0;
  /** What must never be: the run ends with it. */
  broken: unknown;
  #life: Life = { alive: false };
  readonly #world: World;
  readonly #policy: Record<string, unknown>;
  #outcomeWaiters: (() => void)[] = [];

  constructor(world: World, given: { policy: Record<string, unknown>; faults: Faults }) {
    this.#world = world;
    this.#policy = given.policy;
    this.faults = given.faults;
    this.ledger = new MemoryLedger({ wall: () => world.now });
  }

  get leader(): Leader | undefined {
    return this.#life.alive && this.#life.leader?.leads === true ? this.#life.leader : undefined;
  }

  /** Folds and claims until it leads. */
  async start(): Promise<void> {
    for (;;) {
      const life: Life = { alive: true };
      this.#life = life;
      try {
        const leader = await Leader.fold({
          pool,
          id: `leader-${this.kills + this.takeovers}`,
          ledger: this.#ledgerOf(life),
          feed: this.#feedOf(life),
          clock: this.#world.clock(() => life.alive),
          key,
          random: (bytes) => Buffer.from(Array.from({ length: bytes }, () => this.#world.random.int(0, 255))),
          onEnd: (why) => {
            life.alive = false;
            if (typeof why !== "string") this.broken ??= why;
          },
        });
        life.leader = leader;
        life.requests = new Requests({
          leader,
          secrets: { put: async () => {}, get: () => undefined },
          key,
          newLeaseId: () =>
            `l_${Array.from({ length: 22 }, () => this.#world.random.int(0, 35).toString(36)).join("")}`,
        });
        if (!leader.state.opened) life.requests.open({ policy: this.#policy }, () => {});
        if (await leader.lead()) return;
      } catch (error) {
        this.broken ??= error;
        return;
      }
      if (this.broken !== undefined) return;
      await this.#world.sleep(this.#world.random.int(1, 50));
    }
  }

  /** kill -9: whatever it was about to do does not happen, but what it has sent may still arrive. */
  kill(): void {
    this.kills++;
    this.#life.alive = false;
    this.#life.leader?.stop();
  }

  /** Another leader takes over while the old one lives on, and does not know. */
  takeOver(): Promise<void> {
    this.takeovers++;
    return this.start();
  }

  /** A request, as it arrives. Nobody answers for a dead process. */
  request(verb: Exclude<LeaderVerb | PoolVerb, "pool.open">, body: object, respond: (answer: object) => void): void {
    const life = this.#life;
    if (!life.alive || life.leader?.leads !== true) return;
    life.requests?.handle(verb, JSON.parse(JSON.stringify(body)), (answer) => {
      if (life.alive) respond(JSON.parse(JSON.stringify(answer)));
    });
  }

  publish(body: unknown): void {
    const bytes = Buffer.from(JSON.stringify(body));
    this.outcomes.push({ seq: this.outcomes.length + 1, storedAt: this.#world.now, bytes });
    for (const wake of this.#outcomeWaiters.splice(0)) wake();
  }

  #ledgerOf(life: Life): Ledger {
    const world = this.#world;
    const never = new Promise<never>(() => {});
    const self = this;
    return {
      async *read(afterSeq: number): AsyncIterable<StoredCommit> {
        await world.sleep(1);
        yield* self.ledger.read(afterSeq);
      },
      async head(): Promise<Head> {
        await world.sleep(world.random.int(0, 2));
        return life.alive ? self.ledger.head() : never;
      },
      async append(commit) {
        // An attempt may be lost, or stored without an answer, or stored long after the writer has given it up; the
        // writer resends the same bytes until the answer is conclusive, as the JetStream one does.
        for (;;) {
          const { lost, unanswered, late } = self.faults;
          const draw = world.random.next();
          if (draw < lost) await world.sleep(100);
          else if (draw < lost + unanswered) {
            world.after(world.random.int(0, 3), () => self.ledger.store(commit));
            await world.sleep(100);
          } else if (draw < lost + unanswered + late) {
            world.after(world.random.int(50, 2500), () => self.ledger.store(commit));
            await world.sleep(100);
          } else {
            await world.sleep(world.random.int(0, 3));
            // What was sent is stored even if its sender has died meanwhile.
            const result = self.ledger.store(commit);
            await world.sleep(world.random.int(0, 3));
            return life.alive ? result : never;
          }
          if (!life.alive) return never;
        }
      },
      fill: () => self.ledger.fill(),
    };
  }

  #feedOf(life: Life): OutcomeFeed {
    const self = this;
    let stopped = false;
    return {
      follow(from, deliver) {
        let next = self.outcomes.findIndex((message) => message.seq > from.seq);
        if (next < 0) next = self.outcomes.length;
        void (async () => {
          while (!stopped && life.alive) {
            const message = self.outcomes[next];
            if (message === undefined) await new Promise<void>((resolve) => self.#outcomeWaiters.push(resolve));
            else {
              next++;
              await self.#world.sleep(self.#world.random.int(0, 3));
              if (!stopped && life.alive) await deliver(message);
            }
          }
        })();
      },
      async last() {
        const last = self.outcomes.at(-1);
        return last === undefined ? undefined : { seq: last.seq, storedAt: last.storedAt };
      },
      stop() {
        stopped = true;
      },
    };
  }
}
