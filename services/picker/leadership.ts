// The pools of this process. Each has an actor, its life (pool-life.ts). The list of pools is refreshed regularly.
import { type ActorRefFrom, createActor, waitFor } from "xstate";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import { secretsBucket } from "../../protocol/subjects.ts";
import type { PoolVerb } from "../../protocol/verbs.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Responder } from "../../runtime/responder.ts";
import { openBucket, type SecretsBucket } from "../../runtime/secrets.ts";
import { watchStalls } from "../../runtime/stall.ts";
import type { Opener } from "./openers.ts";
import { Peers } from "./peers.ts";
import { poolMachine } from "./pool-life.ts";
import type { PickerOptions, Served, Station } from "./serving.ts";
import { ledgerSizes, outcomesNews } from "./streams.ts";
import { Witnesses } from "./witness.ts";

/** How often to look for pools that this process does not know yet. */
const scanMs = 2000;
/** The process is ended if it takes longer. */
const endMsMax = 1000;
/** A damaged ledger needs an operator. */
const damagedRetryMs = 10_000;

export class Leadership {
  readonly #station: Station & { peers: Peers };
  readonly #lives = new Map<string, ActorRefFrom<typeof poolMachine>>();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(id: string, options: PickerOptions, responder: Responder) {
    const { key, log, witnessFolder: folder, buses } = options;
    const { ledger, follower } = buses;
    let bucket: Promise<SecretsBucket> | undefined;
    this.#station = {
      ...{ id, options, peers: new Peers(id, options), responder, stalls: watchStalls() },
      witnesses: new Witnesses({ bus: ledger, key, log, folder }),
      outcomes: outcomesNews(follower),
      bucket() {
        bucket ??= openBucket(ledger, secretsBucket).catch((error: unknown) => {
          bucket = undefined; // The next pool tries again.
          throw error;
        });
        return bucket;
      },
    };
  }

  /** @throws Fault "fix-setup" if this installation can never lead a pool. */
  async start(): Promise<void> {
    const { options, witnesses } = this.#station;
    // A pool whose ledger is gone still has its witness.
    const known = new Set([...(await ledgerSizes(options.buses.ledger)).keys(), ...(await witnesses.names())]);
    const faults = await Promise.all([...known].map((pool) => this.#lead(pool)));
    const fault = faults.find((each) => each?.code === "fix-setup");
    if (fault !== undefined) throw fault;
    if (this.#isStopped) return;
    this.#timer = setInterval(() => void this.#scan(), scanMs);
    this.#timer.unref();
  }

  /** Resolves when the witnesses are stored, or it takes too long. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    const lives = [...this.#lives.values()];
    const keepers = lives.flatMap((life) => life.getSnapshot().context.served?.keeper ?? []);
    for (const life of lives) life.send({ type: "stop" });
    this.#station.stalls.stop();
    const tooLong = new Promise((resolve) => setTimeout(resolve, endMsMax).unref());
    await Promise.race([Promise.all(keepers.map((keeper) => keeper.end())), tooLong]);
  }

  /** Pools that are not served here because of their ledger. */
  unusable(): { pool: string; message: string }[] {
    return [...this.#lives].flatMap(([pool, life]) => {
      const { fault } = life.getSnapshot().context;
      return life.getSnapshot().matches("broken") && fault !== undefined ? [{ pool, message: fault.message }] : [];
    });
  }

  /** Undefined if the pool is led elsewhere or not at all. */
  #led(pool: string): Served | undefined {
    const life = this.#lives.get(pool)?.getSnapshot();
    return life?.matches({ held: "leading" }) === true ? life.context.served : undefined;
  }

  open(pool: string, opener: Opener): void {
    if (!this.#isStopped) return this.#lifeOf(pool).send({ type: "open", opener });
    opener.respond(refuse("unavailable", "This picker is stopping.", { retryAfterMs: 1000 }));
  }

  /** Asks the pool's leader, in this process or in another picker. */
  async ask(pool: string, asked: { verb: Exclude<PoolVerb, "pool.open">; body: unknown }): Promise<object> {
    const led = this.#led(pool);
    if (led === undefined) {
      const answer = await this.#station.peers.ask(pool, asked);
      const damage = isRefusal(answer) ? this.unusable().find((each) => each.pool === pool) : undefined;
      return damage === undefined ? answer : refuse("unavailable", damage.message, { retryAfterMs: damagedRetryMs });
    }
    return new Promise((resolve) => led.requests.handle(asked.verb, asked.body, resolve));
  }

  /** Resolves when the pool is led, here or elsewhere. If it cannot be led, resolves with the reason. */
  async #lead(pool: string): Promise<Fault | undefined> {
    const life = this.#lifeOf(pool);
    life.send({ type: "lead" });
    return (await waitFor(life, (snapshot) => snapshot.hasTag("settled"))).context.fault;
  }

  async #scan(): Promise<void> {
    try {
      const sizes = await ledgerSizes(this.#station.options.buses.ledger);
      if (this.#isStopped) return;
      for (const [pool, messages] of sizes) this.#lifeOf(pool).send({ type: "seen", messages });
    } catch {
      // The broker is away. The next look will tell.
    }
  }

  #lifeOf(pool: string): ActorRefFrom<typeof poolMachine> {
    const present = this.#lives.get(pool);
    if (present !== undefined) return present;
    const life = createActor(poolMachine, { input: { pool, picker: this.#station } });
    life.subscribe({ complete: () => void this.#lives.delete(pool) });
    this.#lives.set(pool, life);
    return life.start();
  }
}

/**
 * Opens the pool. Retries after transient failures.
 * @throws Fault "fix-setup" if the refusal is permanent.
 */
export async function openPool(leadership: Leadership, pool: string): Promise<void> {
  let refusal: Refusal | undefined;
  for (let attempt = 0; attempt < 20; attempt++) {
    const answer = await new Promise<object>((respond) => leadership.open(pool, { body: {}, respond }));
    if (!isRefusal(answer)) return;
    refusal = answer;
    if (answer.code !== "unavailable" && answer.code !== "unknown-pool") break;
    // The other pools are served all the same. The log says why this one is not.
    if (leadership.unusable().some((each) => each.pool === pool)) return;
    await new Promise((resolve) => setTimeout(resolve, answer.retryAfterMs ?? 500));
  }
  throw new Fault("fix-setup", `The pool ${pool} cannot be opened: ${refusal?.message ?? ""}`);
}
