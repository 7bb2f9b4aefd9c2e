// The pools of this process. Each has an actor, its life (pool-life.ts). The list of pools is refreshed regularly.
import { type ActorRefFrom, createActor, waitFor } from "xstate";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { PoolVerb } from "../../protocol/verbs.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Responder } from "../../runtime/responder.ts";
import { watchStalls } from "../../runtime/stall.ts";
import type { Opener } from "./openers.ts";
import { Peers } from "./peers.ts";
import { poolMachine } from "./pool-life.ts";
import type { PickerOptions, Served, Station } from "./serving.ts";
import { ledgerSizes } from "./streams.ts";

/** How often to look for pools that this process does not know yet. */
const scanMs = 2000;

export class Leadership {
  readonly #station: Station & { peers: Peers };
  readonly #lives = new Map<string, ActorRefFrom<typeof poolMachine>>();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(id: string, options: PickerOptions, responder: Responder) {
    this.#station = { id, options, peers: new Peers(id, options), responder, stalls: watchStalls() };
  }

  /** @throws Fault "fix-setup" if this installation can never lead a pool. */
  async start(): Promise<void> {
    const known = [...(await ledgerSizes(this.#station.options.buses.ledger)).keys()];
    const faults = await Promise.all(known.map((pool) => this.#lead(pool)));
    const fault = faults.find((each) => each?.code === "fix-setup");
    if (fault !== undefined) throw fault;
    if (this.#isStopped) return;
    this.#timer = setInterval(() => void this.#scan(), scanMs);
    this.#timer.unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    for (const life of this.#lives.values()) life.send({ type: "stop" });
    this.#station.stalls.stop();
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
  ask(pool: string, asked: { verb: Exclude<PoolVerb, "pool.open">; body: unknown }): Promise<object> {
    const led = this.#led(pool);
    if (led === undefined) return this.#station.peers.ask(pool, asked);
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
    await new Promise((resolve) => setTimeout(resolve, answer.retryAfterMs ?? 500));
  }
  throw new Fault("fix-setup", `The pool ${pool} cannot be opened: ${refusal?.message ?? ""}`);
}
