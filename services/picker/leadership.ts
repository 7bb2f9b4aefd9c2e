// The pools of this process. Each has an actor, its life (pool-life.ts). The list of pools is refreshed regularly.
import type { Subscription } from "@nats-io/transport-node";
import { type ActorRefFrom, createActor, waitFor } from "xstate";
import { levels } from "../../events/level.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { ledgerStream, secretsBucket } from "../../protocol/subjects.ts";
import type { PoolVerb } from "../../protocol/verbs.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import { atMost } from "../../runtime/at-most.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Defects } from "../../runtime/defects.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import type { LastMessages } from "../../runtime/last-messages.ts";
import { Pulse } from "../../runtime/pulse.ts";
import type { Responder } from "../../runtime/responder.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { StreamRoom } from "../../runtime/room.ts";
import { openBucket, type SecretsBucket } from "../../runtime/secrets.ts";
import { watchStalls } from "../../runtime/stall.ts";
import { StreamNews } from "../../runtime/stream-news.ts";
import { Quotas } from "../../state-machines/queue/quotas.ts";
import { deletePool } from "./deletion.ts";
import { ForeignKey } from "./fold.ts";
import { noDemand } from "./growth.ts";
import { handOver, hearLeaving } from "./hand-over.ts";
import { OpenPools } from "./open-pools.ts";
import type { Opener } from "./openers.ts";
import { Peers } from "./peers.ts";
import { phaseOf } from "./phase.ts";
import { Phases } from "./phases.ts";
import { poolMachine } from "./pool-life.ts";
import { PurgedLedgers } from "./purged-ledgers.ts";
import { letGo, type PickerOptions, type Served, type Station } from "./serving.ts";
import { Snapshots } from "./snapshots.ts";
import { opennessIn, outcomesNews } from "./streams.ts";
import { Upkeep } from "./upkeep.ts";
import { anybody, type Who } from "./who.ts";
import { Witnesses } from "./witness.ts";

/** How often to look for pools that this process does not know yet. */
const scanMs = 2000;
/** More would hold each other up, and requests for the pools that are led already. */
const foldsAtOnce = 8;
const fullRetryMs = 60_000;
/** The process is ended if it takes longer. */
const endMsMax = 1000;
/** A damaged ledger needs an operator. */
const damagedRetryMs = 10_000;

export class Leadership {
  readonly #station: Station & { peers: Peers };
  readonly #lives = new Map<string, ActorRefFrom<typeof poolMachine>>();
  /** Pools whose life ended because of a bug, and the pauses before the next one. */
  readonly #failed = new Map<string, { restarts: Restarts; until: number }>();
  readonly #openness: LastMessages<boolean>;
  readonly #openPools: OpenPools;
  /** Pools that have a ledger, closed ones included, as of the last scan. */
  #names: ReadonlySet<string> = new Set();
  /** Closed pools, and how many commits each has in the stream. */
  #closed: ReadonlyMap<string, number> = new Map();
  readonly #purged: PurgedLedgers;
  readonly #phases = new Phases();
  readonly #hearing: Subscription;
  readonly #upkeep: Upkeep | undefined;
  readonly #leaving: Subscription;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** They are being handed over, and decide nothing that is asked from now on. */
  readonly #left = new WeakSet<Served>();

  constructor(id: string, options: PickerOptions, responder: Responder) {
    const { key, log, witnessFolder: folder, buses, upkeep, clock = systemClock } = options;
    const { ledger, follower } = buses;
    this.#openness = opennessIn(ledger);
    this.#openPools = new OpenPools({
      names: () => this.openPools(),
      look: (pool) => this.ask(pool, { verb: "pool.get", body: {}, who: anybody }),
    });
    let bucket: Promise<SecretsBucket> | undefined;
    this.#station = {
      ...{ id, options, peers: new Peers(id, options), responder, stalls: watchStalls() },
      witnesses: new Witnesses({ bus: ledger, key, log, folder }),
      snapshots: new Snapshots(ledger),
      archive: upkeep && new Archive(upkeep.archiveFolder),
      pulse: new Pulse(clock),
      outcomes: outcomesNews(follower),
      ledgers: new StreamNews(ledger, ledgerStream),
      room: new StreamRoom(ledger, ledgerStream),
      demand: noDemand(),
      quotas: new Quotas(),
      folds: atMost(foldsAtOnce),
      defects: options.defects ?? new Defects(log),
      bucket() {
        bucket ??= openBucket(ledger, secretsBucket).catch((error: unknown) => {
          bucket = undefined; // The next pool tries again.
          throw error;
        });
        return bucket;
      },
    };
    const led = (): Served[] => [...this.#lives.keys()].flatMap((pool) => this.#led(pool) ?? []);
    const bytes = (): number => this.#station.room.room.bytes;
    const { peers } = this.#station;
    const closed = (): Map<string, number> =>
      new Map([...this.#closed].filter(([pool]) => peers.knows(levels.closedLedgers) && peers.keeps(pool)));
    const own = { leader: id, version: options.version };
    this.#upkeep = upkeep && new Upkeep({ settings: upkeep, bus: ledger, clock, log, bytes, led, closed, own });
    this.#purged = new PurgedLedgers(log);
    this.#hearing = this.#station.peers.hear((pool, term) => this.#lives.get(pool)?.send({ type: "noticed", term }));
    this.#leaving = hearLeaving({ id, bus: buses.peers }, (pool, successor) =>
      this.#lives.get(pool)?.send({ type: "leaving", successor }),
    );
  }

  /** @throws Fault "fix-setup" if this installation can never lead a pool. */
  async start(): Promise<void> {
    // A pool whose ledger is gone still has its witness.
    const witnessed = await this.#station.witnesses.names();
    const sizes = await this.#openness.sizes();
    this.#names = new Set(sizes.keys());
    const open = await this.#openNames(sizes);
    const gone = witnessed.filter((pool) => !sizes.has(pool));
    if (this.#isStopped) return;
    const leading = [...open, ...gone].map((pool) => this.#lead(pool));
    // Before they are led: a pool that hangs must not keep others from being found, or the picker from starting.
    this.#timer = setInterval(() => {
      this.#lookAtPhases();
      void this.#scan();
    }, scanMs);
    this.#timer.unref();
    this.#upkeep?.start();
    const fault = (await Promise.all(leading)).find((each) => each instanceof ForeignKey);
    if (fault !== undefined) throw fault;
  }

  /** Hands its pools over. Resolves when the witnesses are stored, or it takes too long. */
  async stop(): Promise<void> {
    const led = this.#isStopped ? [] : [...this.#lives.keys()].flatMap((pool) => this.#led(pool) ?? []);
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#upkeep?.stop();
    this.#leaving.unsubscribe();
    const lives = [...this.#lives.values()];
    // A follower must not take over a pool now.
    for (const life of lives) if (life.getSnapshot().matches("following")) life.send({ type: "stop" });
    await Promise.all(led.map((served) => this.#handOver(served)));
    const keepers = lives.flatMap((life) => life.getSnapshot().context.served?.keeper ?? []);
    for (const life of lives) life.send({ type: "stop" });
    this.#station.stalls.stop();
    this.#station.pulse.stop();
    this.#hearing.unsubscribe();
    this.#station.peers.stop();
    const tooLong = new Promise((resolve) => setTimeout(resolve, endMsMax).unref());
    await Promise.race([Promise.all(keepers.map((keeper) => keeper.end())), tooLong]);
  }

  async #handOver(served: Served): Promise<void> {
    const { id, options } = this.#station;
    // A request that any picker may answer is passed on to the next leader from then on.
    const shut = async (): Promise<void> => {
      this.#left.add(served);
      await Promise.all(served.subscriptions.map((each) => each.shut?.()));
    };
    try {
      await handOver(served, { id, bus: options.buses.peers, shut });
    } catch (error) {
      options.log.warn({ pool: served.pool, why: messageOf(error) }, "the pool could not be handed over");
    }
  }

  /** Pools that are not served here because of their ledger. */
  unusable(): { pool: string; message: string }[] {
    return [...this.#lives].flatMap(([pool, life]) => {
      const { fault } = life.getSnapshot().context;
      return life.getSnapshot().hasTag("unusable") && fault !== undefined ? [{ pool, message: fault.message }] : [];
    });
  }

  /** Pools that are led here, but will not be after the next start. */
  purged(): { pool: string; message: string }[] {
    return this.#purged.list();
  }

  /** In the bucket of secrets, of the pools that are led here. */
  secretEntries(): number {
    const lives = [...this.#lives.values()];
    return lives.reduce((sum, life) => sum + (life.getSnapshot().context.served?.secrets.entries ?? 0), 0);
  }

  /** Undefined if the pool is led elsewhere or not at all. */
  #led(pool: string): Served | undefined {
    const life = this.#lives.get(pool)?.getSnapshot();
    const served = life?.matches({ held: "leading" }) === true ? life.context.served : undefined;
    return served !== undefined && this.#left.has(served) ? undefined : served;
  }

  /** Pools that are open, led here, led elsewhere or not at all. @throws if the broker does not answer. */
  async openPools(): Promise<string[]> {
    return this.#openNames(await this.#openness.sizes());
  }

  open(pool: string, opener: Opener): void {
    const refusal = this.#refusalToOpen(pool);
    if (refusal !== undefined) return opener.respond(refusal);
    const lead = (admitted: Opener): void => this.#lifeOf(pool).send({ type: "open", opener: admitted });
    if (opener.who.quota?.openPools === undefined) lead(opener);
    else void this.#openPools.admit(pool, opener, lead);
  }

  #refusalToOpen(pool: string): Refusal | undefined {
    if (this.#isStopped) return refuse("unavailable", "This picker is stopping.", { retryAfterMs: 1000 });
    const { poolsMax } = this.#station.options;
    if (poolsMax === undefined || this.#lives.has(pool) || this.#names.has(pool)) return undefined;
    if (new Set([...this.#names, ...this.#lives.keys()]).size < poolsMax) return undefined;
    const message =
      `This installation has ${poolsMax} pools, closed ones included, and no more are allowed. ` +
      "Delete closed pools, or raise REMUDA_POOLS_MAX.";
    return refuse("overloaded", message, { retryAfterMs: fullRetryMs });
  }

  /** Deletes a closed pool. */
  async delete(pool: string, { archive }: { archive: boolean }): Promise<object> {
    try {
      const isLed = async (): Promise<boolean> => this.#led(pool) !== undefined || this.#station.peers.isLed(pool);
      const answer = await deletePool(pool, { picker: this.#station, archive, isLed });
      if ("deleted" in answer) {
        this.#lives.get(pool)?.send({ type: "stop" });
        this.#names = new Set([...this.#names].filter((name) => name !== pool));
      }
      return answer;
    } catch (error) {
      return refuse("unavailable", `The pool cannot be deleted: ${messageOf(error)}.`, { retryAfterMs: 1000 });
    }
  }

  /** Asks the pool's leader, in this process or in another picker. @param given as for Peers. */
  async ask(
    pool: string,
    asked: { verb: Exclude<PoolVerb, "pool.open">; body: unknown; who: Who },
    given: { waitMs?: number } = {},
  ): Promise<object> {
    const led = this.#led(pool);
    if (led === undefined) {
      const answer = await this.#station.peers.ask(pool, asked, given);
      // If the ledger is there and says that the pool is closed, its damage does not matter.
      const isClosed = isRefusal(answer) && answer.code === "unknown-pool" && this.#names.has(pool);
      const isRefused = isRefusal(answer) && !isClosed;
      const damage = isRefused ? this.unusable().find((each) => each.pool === pool) : undefined;
      return damage === undefined ? answer : refuse("unavailable", damage.message, { retryAfterMs: damagedRetryMs });
    }
    const answer = new Promise<object>((resolve, reject) => {
      led.requests.handle(asked.verb, asked.body, resolve, asked.who)?.catch(reject);
    });
    // A leader that is fenced, or whose pool's life ends because of a bug, before it has answered, never does.
    const answered = new AbortController();
    const over = waitFor(this.#lifeOf(pool), ({ context }) => context.served !== led, { signal: answered.signal });
    const ask = (): Promise<object> => this.#station.peers.ask(pool, asked, given);
    const elsewhere = over.then(ask, () => (answered.signal.aborted ? answer : ask()));
    return Promise.race([answer, elsewhere]).finally(() => answered.abort());
  }

  /** Resolves when the pool is led, here or elsewhere. If it cannot be led, or hangs, resolves with the reason. */
  async #lead(pool: string): Promise<Fault | undefined> {
    const life = this.#lifeOf(pool);
    life.send({ type: "lead" });
    const settled = waitFor(life, (snapshot) => snapshot.hasTag("settled"));
    return settled.then(
      ({ context }) => context.fault,
      () => undefined, // It failed because of a bug, and is tried again.
    );
  }

  #lookAtPhases(): void {
    const { log, buses } = this.#station.options;
    for (const [pool, life] of this.#lives) {
      const phase = buses.ledger.up ? phaseOf(life.getSnapshot()) : undefined;
      const { say, isLate } = this.#phases.look(pool, phase, performance.now());
      if (say === undefined || phase === undefined) continue;
      log.warn({ pool, phase: phase.name }, say);
      if (isLate) life.send({ type: "late", error: new Fault("retry-later", `The pool ${pool} is not led: ${say}.`) });
    }
  }

  async #scan(): Promise<void> {
    try {
      const led = [...this.#lives.keys()].flatMap((pool) => this.#led(pool) ?? []);
      const commits = new Map(led.map(({ pool, leader }) => [pool, leader.last.n]));
      const sizes = await this.#openness.sizes();
      const open = new Set(await this.#openNames(sizes));
      if (this.#isStopped) return;
      this.#purged.look(commits, sizes, (pool) => this.#led(pool));
      this.#names = new Set(sizes.keys());
      this.#closed = new Map([...sizes].filter(([pool]) => !open.has(pool)));
      // A closed pool has no life, and costs nothing, until it is opened again.
      for (const [pool, messages] of sizes) {
        if ((this.#failed.get(pool)?.until ?? 0) > systemClock.monotonic()) continue;
        if (open.has(pool) || this.#lives.has(pool)) this.#lifeOf(pool).send({ type: "seen", messages });
      }
      // Another picker has deleted it.
      for (const [pool, life] of this.#lives)
        if (!sizes.has(pool) && life.getSnapshot().matches("closed")) life.send({ type: "stop" });
    } catch {
      // The broker is away. The next look will tell.
    }
  }

  /** A pool that is led here is open. The ledgers of the others tell whether they are. */
  async #openNames(sizes: ReadonlyMap<string, number>): Promise<string[]> {
    const others = new Map([...sizes].filter(([pool]) => this.#led(pool) === undefined));
    const isOpen = await this.#openness.of(others);
    return [...sizes.keys()].filter((pool) => isOpen.get(pool) ?? true);
  }

  #lifeOf(pool: string): ActorRefFrom<typeof poolMachine> {
    const present = this.#lives.get(pool);
    if (present !== undefined) return present;
    const life = createActor(poolMachine, { input: { pool, picker: this.#station } });
    life.subscribe({
      complete: () => void this.#lives.delete(pool),
      error: (error) => this.#endFailed(pool, life, error),
    });
    this.#lives.set(pool, life);
    return life.start();
  }

  /** The life of a pool has ended because of a bug. The next look at the pools begins another one. */
  #endFailed(pool: string, life: ActorRefFrom<typeof poolMachine>, error: unknown): void {
    const { served, openers } = life.getSnapshot().context;
    this.#lives.delete(pool);
    this.#station.defects.note("pool", error, { pool });
    const { restarts } = this.#failed.get(pool) ?? { restarts: new Restarts(systemClock) };
    this.#failed.set(pool, { restarts, until: systemClock.monotonic() + restarts.pauseMs() });
    if (served !== undefined) letGo(served);
    openers.refuse(
      refuse("unavailable", "The pool cannot be opened now: see the picker's log.", { retryAfterMs: 1000 }),
    );
  }
}
