// A leader's work between its claim and its first grant. It looks up the values of tokens, and ingests every outcome
// that was stored before the claim. From then on it follows the stream as long as it leads.
import type { Clock } from "../../runtime/clock.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Engine } from "../../state-machines/engine.ts";
import type { OutcomeFeed, Outcomes } from "./outcomes.ts";
import { lookUpTokens } from "./token-values.ts";

export interface CatchUpPorts {
  feed: OutcomeFeed;
  secrets: Pick<Secrets, "look">;
  clock: Pick<Clock, "after">;
}

const lookMs = 1000;
const retryMs = 100;

export class CatchUp {
  readonly #ports: CatchUpPorts;
  readonly #engine: Pick<Engine<never>, "state" | "catchUp" | "serves">;
  readonly #onLook: () => void;
  #isOver = false;

  /** @param onLook called when the engine knows how far it must come. */
  constructor(ports: CatchUpPorts, engine: Pick<Engine<never>, "state" | "catchUp" | "serves">, onLook: () => void) {
    this.#ports = ports;
    this.#engine = engine;
    this.#onLook = onLook;
  }

  /**
   * Resolves when it has caught up.
   * @param onOutcome called when one more outcome waits to be ingested.
   */
  async run(outcomes: Outcomes, onOutcome: () => void): Promise<void> {
    const { feed, secrets } = this.#ports;
    const { state } = this.#engine;
    // The previous leader may have stored values until the claim. From now on only this leader does.
    await this.#insist(() => lookUpTokens(secrets, state));
    await this.#look();
    if (this.#isOver) return;
    feed.follow(state.cursor, (message) => {
      const offered = outcomes.offer(message);
      onOutcome();
      return offered;
    });
    // The outcome that was last at that time may have been removed since. Then there is less to wait for.
    while (!this.#isOver && !this.#engine.serves) {
      await this.#wait(lookMs);
      if (!this.#engine.serves) await this.#look();
    }
  }

  stop(): void {
    this.#isOver = true;
    this.#ports.feed.stop();
  }

  async #look(): Promise<void> {
    await this.#insist(async () => this.#engine.catchUp(await this.#ports.feed.last()));
    if (!this.#isOver) this.#onLook();
  }

  /** Repeats until the broker answers. */
  async #insist(ask: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      try {
        return await ask();
      } catch {
        await this.#wait(retryMs);
      }
    }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#ports.clock.after(ms, resolve));
  }
}
