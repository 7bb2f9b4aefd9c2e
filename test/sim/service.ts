// The service in the simulator: the real leader, requests, rules and loop. Its lives are killed at any await, hang, or
// run twice at once. The observer gets every request, answer, turn and stored commit.

import type { LeaseReply } from "../../protocol/lease.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { LeaderVerb, PoolVerb } from "../../protocol/verbs.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { foldLedger } from "../../services/picker/fold.ts";
import { Leader } from "../../services/picker/leader.ts";
import type { LeaderPorts } from "../../services/picker/leader-ports.ts";
import type { Kept, Seen } from "../../services/picker/pool-time.ts";
import { Requests } from "../../services/picker/requests.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import type { Seeded } from "../kit/seed.ts";
import { SimBroker } from "./broker.ts";
import { chanceOf } from "./chance.ts";
import { SimFollower } from "./follower.ts";
import { Life } from "./life.ts";
import type { Document, Physics } from "./setting.ts";
import { SimSnapshots } from "./snapshots.ts";
import type { World } from "./world.ts";

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "the simulator's key");
export const pool = "sim";
export type SimVerb = Exclude<LeaderVerb | PoolVerb, "pool.open">;

/** A request as it reached a leader. */
export interface Ask {
  /** Its number in the order of arrival at its life. */
  readonly order: number;
  readonly life: Life;
  readonly verb: SimVerb;
  readonly body: Record<string, unknown>;
  /** In the pool's time. */
  readonly arrivedAt: number;
  /** The ids that its leases will have. */
  readonly leaseIds: string[];
  answer: Record<string, unknown> | undefined;
}

/** @param answer to a lease request, not a refusal. */
export function leasesIn(answer: Record<string, unknown>): readonly LeaseReply[] {
  const { leases = [answer as unknown as LeaseReply] } = answer as { leases?: readonly LeaseReply[] }; // As it was sent.
  return leases;
}

export interface Onlooker {
  asked(ask: Ask): void;
  /** The leader has answered. Its client may not get the answer. */
  answered(ask: Ask): void;
  /** A turn is decided. `asks`: the requests that it decided on for the first time. */
  turned(turn: Turned): void;
  stored(commit: StoredCommit): void;
  told(who: string, what: string): void;
}

export interface Turned {
  life: Life;
  at: number;
  number: number;
  events: readonly string[];
  asks: readonly Ask[];
  /** All requests with a lower number have been decided on, in this turn or before. */
  lookedTo: number;
  /** The leader has caught up, and serves. */
  led: boolean;
}

export class SimService {
  readonly broker: SimBroker;
  readonly counts = { kills: 0, takeovers: 0, hangs: 0, sleeps: 0, closes: 0 };
  /** The share of answers that are lost on the way back. */
  answersLost = 0.01;
  /** An error that must never occur. It ends the run. */
  broken: unknown;
  lives: Life[] = [];
  readonly #world: World;
  readonly #seed: number;
  readonly #driftMs: (at: number) => number;
  readonly #document: Document;
  readonly #onlooker: Onlooker;
  readonly #secrets = new Map<string, string>();
  readonly #clocks: Seeded;
  /** In such a run the broker's clock is set between two leaders, and leaders keep the time in the data directory. */
  readonly #setsClocks: boolean;
  readonly #snapshots: SimSnapshots;
  #kept: Kept | undefined;
  /** A process that followed the last leader, and claims next. */
  #follower: { life: Life; seen: Seen } | undefined;
  /** Undefined in two of three runs, because following takes time. */
  #following: SimFollower | undefined;
  #born = 0;
  /** Callbacks that wait until a process leads. */
  #rising: (() => void)[] = [];

  /** @param given.snapshots share of the leaders that start from one. */
  constructor(given: {
    world: World;
    seed: number;
    physics: Physics;
    document: Document;
    onlooker: Onlooker;
    snapshots?: number | undefined;
  }) {
    this.#world = given.world;
    this.#seed = given.seed;
    this.#driftMs = driftOf(given.physics, chanceOf(given.seed, "drift"));
    this.#document = given.document;
    this.#onlooker = given.onlooker;
    this.#clocks = chanceOf(given.seed, "clocks");
    this.#setsClocks = this.#clocks.chance(0.4);
    this.#snapshots = new SimSnapshots({
      chance: chanceOf(given.seed, "snapshots"),
      share: given.snapshots ?? 0.5,
      commits: () => this.broker.ledger.commits,
    });
    this.broker = new SimBroker({
      world: given.world,
      chance: chanceOf(given.seed, "broker"),
      events: {
        onStored: (commit) => {
          this.#following?.add(commit);
          given.onlooker.stored(commit);
        },
      },
    });
  }

  /** The leader as far as an outsider can tell: the newest one. */
  get leader(): Leader | undefined {
    return this.lives.findLast((life) => life.leads)?.leader;
  }

  /** A process comes up, folds and claims. This repeats until one of its lives leads. */
  start(): Promise<void> {
    return Promise.race([this.#rise(), new Promise<void>((resolve) => this.#rising.push(resolve))]);
  }

  async #rise(): Promise<void> {
    const { kills } = this.counts;
    while (this.broken === undefined && this.counts.kills === kills) {
      const { life, seen } = this.#follower ?? { life: this.#newLife(), seen: undefined };
      this.#follower = undefined;
      this.lives.push(life);
      try {
        await this.#fold(life, seen);
        if (await life.leader!.lead()) return; // Folded just now.
      } catch (error) {
        this.broken ??= error;
      }
      await this.#world.sleep(10);
    }
  }

  breakDown(error: unknown): void {
    this.broken ??= error;
  }

  /** kill -9 of all processes. Their pending work does not happen, but messages already sent may still arrive. */
  kill(): void {
    this.counts.kills++;
    this.#changeLeaders();
    for (const life of this.lives) this.#end(life);
    for (const giveUp of this.#rising.splice(0)) giveUp();
    this.#onlooker.told("fault", "the leader is killed");
  }

  /** Another leader takes over while the old one lives on without knowing it. */
  takeOver(): Promise<void> {
    this.counts.takeovers++;
    this.#changeLeaders();
    this.#onlooker.told("fault", "another process claims the pool while the leader lives on");
    return this.start();
  }

  /** Half of the times, the next process has followed the leader. Its clocks go on; the broker's may be set. */
  #changeLeaders(): void {
    const leading = this.lives.findLast((life) => life.leads && life.hangsUntil <= this.#world.now);
    this.#follower = undefined;
    if (leading !== undefined && this.#clocks.chance(0.5)) {
      const life = this.#newLife();
      const { state } = leading.leader!; // It leads.
      const seen = { term: state.term, at: leading.leader!.now(), on: life.clock.monotonic() };
      this.#follower = { life, seen };
    }
    if (!this.#setsClocks || this.#clocks.chance(0.3)) return;
    const offMs = this.#clocks.int(-3000, 10_000);
    this.broker.setClock(offMs);
    this.#onlooker.told("fault", `the broker's clock is set, and is ${offMs} ms off`);
  }

  hang(forMs: number, given: { asleep: boolean }): void {
    this.counts[given.asleep ? "sleeps" : "hangs"]++;
    for (const life of this.lives) life.hang(forMs, given);
    this.#onlooker.told("fault", `the leader${given.asleep ? "'s machine sleeps" : " hangs"} for ${forMs} ms`);
  }

  /** A request that arrives at a process that believes that it leads. A dead process does not answer. */
  request(verb: SimVerb, body: object, to: { luck: number; respond: (answer: object) => void }): void {
    const leading = this.lives.filter((life) => life.leads);
    const life = leading[Math.floor(to.luck * leading.length)];
    if (life === undefined || this.broker.isDown) return;
    life.lives(() => this.#deliver(life, verb, JSON.parse(JSON.stringify(body)), to.respond));
  }

  /** A deposed leader learns of it from its first request. Until then a request may be lost to it. */
  askAll(): void {
    for (const life of this.lives) life.lives(() => this.#deliver(life, "pool.stats", {}, () => {}));
  }

  #deliver(life: Life, verb: SimVerb, body: Record<string, unknown>, respond: (answer: object) => void): void {
    if (!life.leads) return;
    const arrivedAt = life.leader!.now(); // It leads.
    const asks = this.#asksOf(life);
    const ask: Ask = { order: asks.count++, life, verb, body, arrivedAt, leaseIds: [], answer: undefined };
    asks.fresh.push(ask);
    asks.latest = ask;
    this.#onlooker.asked(ask);
    life.requests!.handle(verb, body, (answer) => {
      if (!life.alive || ask.answer !== undefined) return;
      ask.answer = JSON.parse(JSON.stringify(answer));
      this.#onlooker.answered(ask);
      respond(ask.answer!); // Just set.
    });
  }

  #newLife(): Life {
    const n = this.#born++;
    return new Life({
      world: this.#world,
      name: `leader-${n}`,
      chance: chanceOf(this.#seed, "life", n),
      driftMs: this.#driftMs,
    });
  }

  async #fold(life: Life, seen: Seen | undefined): Promise<void> {
    const { broker } = this;
    const chance = chanceOf(this.#seed, "draws", this.#born);
    const secrets = this.#secretsOf(life);
    const ports: LeaderPorts = {
      pool,
      id: life.name,
      ledger: broker.ledgerOf(life),
      feed: broker.feedOf(life),
      clock: life.clock,
      seen,
      kept: this.#kept,
      snapshots: this.#snapshots,
      onBadSnapshot: (why) => {
        this.broken ??= new Error(why);
      },
      key,
      secrets,
      random: (bytes) => Buffer.from(Array.from({ length: bytes }, () => chance.int(0, 255))),
      tell: (event) => {
        if (event.type === "claimed" || event.type === "caughtUp") return;
        const said = event.type === "broke" ? `stops: ${event.error.message}` : `leads no more: ${event.type}`;
        this.#onlooker.told(life.name, said);
        if (event.type === "closed") this.counts.closes++;
        if (event.type === "broke") this.broken ??= event.error;
        // Its answers while it ends are still delivered.
        this.#world.after(0, () => this.#end(life));
      },
    };
    const folded = await foldLedger(ports);
    if (!life.alive) return;
    const leader = new Leader(ports, (seen && this.#following?.instead(folded)) ?? folded);
    // It must not fold what this leader decides, because they have one state now.
    if (this.#seed % 3 === 0) this.#following = new SimFollower(pool, this.broker.ledger.commits);
    life.leader = leader;
    this.#watchTurns(life, leader);
    if (this.#setsClocks) this.#keepTime(life, leader);
    const newLeaseId = (): string => {
      const id = `l_${Array.from({ length: 22 }, () => chance.int(0, 35).toString(36)).join("")}`;
      this.#asksOf(life).latest?.leaseIds.push(id);
      return id;
    };
    life.requests = new Requests({ outbound: loopbackAllowed, leader, secrets, key, newLeaseId });
    const { requests } = life;
    // If the first policy is refused by now (limitBy cannot change while leases are open), the present one stays.
    const onAnswer = (answer: object): void => {
      if (isRefusal(answer) && life.alive) requests.open({}, () => {});
    };
    if (!leader.state.opened) requests.open({ policy: this.#document }, onAnswer);
  }

  #secretsOf(life: Life) {
    const stored = async (): Promise<void> => {
      await this.#world.sleep(2);
      await life.awake();
    };
    return {
      put: async (logins: ReadonlyMap<string, string>) => {
        for (const [id, login] of logins) this.#secrets.set(id, login);
        await stored();
      },
      putAs: async (id: string, secret: string) => {
        this.#secrets.set(id, secret);
        await stored();
      },
      claim: async (id: string, by: string) => {
        const holder = this.#secrets.get(id) ?? by;
        this.#secrets.set(id, holder);
        await stored();
        return holder;
      },
      look: async () => {},
      get: (id: string) => this.#secrets.get(id),
      prune: async () => {},
    };
  }

  #keepTime(life: Life, leader: Leader): void {
    const stored = leader.stored.bind(leader);
    leader.stored = () => {
      stored();
      if (leader.leads) this.#kept = { term: leader.state.term, at: leader.now(), boot: life.clock.boot!()! };
    };
  }

  /** Each turn, with the requests that it decided on for the first time. */
  #watchTurns(life: Life, leader: Leader): void {
    const turn = leader.turn.bind(leader);
    leader.turn = (at, number) => {
      const asks = this.#asksOf(life);
      const led = leader.leads;
      const draft = turn(at, number);
      const fresh = asks.fresh;
      asks.fresh = [];
      this.#onlooker.turned({ life, at, number, events: draft.events, asks: fresh, lookedTo: asks.count, led });
      return draft;
    };
  }

  readonly #asks = new Map<Life, { count: number; fresh: Ask[]; latest: Ask | undefined }>();
  #asksOf(life: Life) {
    let asks = this.#asks.get(life);
    if (asks === undefined) {
      asks = { count: 0, fresh: [], latest: undefined };
      this.#asks.set(life, asks);
    }
    return asks;
  }

  /** How many leaders started from a snapshot. */
  get snapshotsUsed(): number {
    return this.#snapshots.used;
  }

  #end(life: Life): void {
    life.alive = false;
    life.leader?.stop();
    this.lives = this.lives.filter((each) => each !== life);
  }
}

/**
 * The clock is alternately 1 % too fast and 1 % too slow. Half of the promise's margin is for this drift. The other
 * half is for its effect on the comparison with the broker's clock when a leader starts.
 */
function driftOf({ clockMs }: Physics, chance: Seeded): (at: number) => number {
  const farMs = clockMs / 2;
  const phaseMs = chance.int(0, 200 * farMs);
  return (at) => Math.abs((((at + phaseMs) % (200 * farMs)) - 100 * farMs) / 100 || 0);
}
