// One life of a leader, and everything it keeps in memory. Its wall clock is wrong by hours in either direction. Its
// monotonic clock drifts as far as the promise allows, and stops while the machine sleeps. If it hangs, nothing that it
// awaits arrives; when it resumes, all of it arrives at once.
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
  #sleeps: { from: number; until: number }[] = [];
  #looks = 0;

  /** @param given.driftMs the error of the monotonic clock at an instant of true time. */
  constructor(given: { world: World; name: string; chance: Seeded; driftMs: (at: number) => number }) {
    const { world, name, chance, driftMs } = given;
    this.#world = world;
    this.name = name;
    const born = world.now;
    const steps = [3_600_000, -3_600_000, 86_400_000].map((step) => step + chance.int(-1000, 1000));
    this.clock = {
      wall: () => Math.floor(world.now) + steps[this.#looks++ % steps.length]!,
      monotonic: () => world.now + driftMs(world.now) - born - this.#asleepMs(),
      after: (ms, callback) => {
        let isWanted = true;
        const takeBack = world.after(ms, () => this.lives(() => isWanted && callback()));
        return () => {
          isWanted = false; // It may be due although the process hangs.
          takeBack();
        };
      },
      soon: (callback) => void world.after(0, () => this.lives(callback)),
      boot: () => ({ id: "the only one", ms: world.now + driftMs(world.now) }),
    };
  }

  /** Runs it if the process lives. If the process hangs, it runs as soon as the process resumes. */
  lives(run: () => void): void {
    if (!this.alive) return;
    if (this.hangsUntil > this.#world.now) this.#world.after(this.hangsUntil - this.#world.now, () => this.lives(run));
    else run();
  }

  /** Returns when the process lives and does not hang. Never returns if it is dead. */
  awake(): Promise<void> {
    return new Promise((resolve) => this.lives(resolve));
  }

  get leads(): boolean {
    return this.alive && this.leader?.leads === true;
  }

  /** @param given.asleep the machine sleeps, so that its monotonic clock stops. */
  hang(forMs: number, given: { asleep: boolean }): void {
    const { now } = this.#world;
    this.hangsUntil = now + forMs;
    if (given.asleep) this.#sleeps.push({ from: now, until: now + forMs });
  }

  #asleepMs(): number {
    const { now } = this.#world;
    return this.#sleeps.reduce((ms, { from, until }) => ms + Math.min(now, until) - from, 0);
  }
}
