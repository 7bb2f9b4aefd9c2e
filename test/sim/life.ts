// One life of a leader: what it holds dies with it. Its wall clock is as wrong as the promise allows when it starts, and
// steps back and forth by hours afterwards; its monotonic clock is slewed within the same bound. It may hang: then
// nothing it waits for comes, until it comes all at once.
import type { Clock } from "../../runtime/clock.ts";
import type { Leader } from "../../services/picker/leader.ts";
import type { Requests } from "../../services/picker/requests.ts";
import type { Seeded } from "../kit/seed.ts";
import type { World } from "./world.ts";

export class Life {
  alive = true;
  leader: Leader | undefined;
  requests: Requests | undefined;
  readonly name: string;
  readonly clock: Clock;
  hangsUntil = 0;
  readonly #world: World;
  readonly #offset: number;
  readonly #slew: number;
  readonly #clockMs: number;
  readonly #born: number;
  #looks = 0;

  /** @param given.clockMs by how much clocks may differ, from each other and within the promise's memory. */
  constructor(given: { world: World; name: string; chance: Seeded; clockMs: number }) {
    const { world, name, chance, clockMs } = given;
    this.#world = world;
    this.name = name;
    this.#born = world.now;
    this.#offset = chance.int(0, clockMs);
    this.#slew = chance.pick([0, 0.01, -0.01]);
    this.#clockMs = clockMs;
    const stepped = [3_600_000, -3_600_000, 86_400_000].map((step) => step + chance.int(-1000, 1000));
    this.clock = {
      wall: () => Math.floor(this.#time()) + (this.#looks++ === 0 ? 0 : stepped[this.#looks % stepped.length]!),
      monotonic: () => this.#time() - this.#born,
      after: (ms, callback) => world.after(ms, () => this.lives(callback)),
      soon: (callback) => void world.after(0, () => this.lives(callback)),
    };
  }

  /** Runs it if the process lives; when it hangs, as soon as it goes on. */
  lives(run: () => void): void {
    if (!this.alive) return;
    if (this.hangsUntil > this.#world.now) this.#world.after(this.hangsUntil - this.#world.now, () => this.lives(run));
    else run();
  }

  /** Comes back when the process lives and does not hang; never, when it is dead. */
  awake(): Promise<void> {
    return new Promise((resolve) => this.lives(resolve));
  }

  get leads(): boolean {
    return this.alive && this.leader?.leads === true;
  }

  #time(): number {
    const { now } = this.#world;
    const drifted = this.#offset + this.#slew * (now - this.#born);
    return now + Math.min(this.#clockMs, Math.max(0, drifted));
  }
}
