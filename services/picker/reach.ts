// Whether this process reaches the broker on each of its connections. A leader tells the other pickers for how long it
// has not reached it. A picker that does not reach the broker must not mistake its own broken connection for a dead
// leader.
import { ledgerStream } from "../../protocol/subjects.ts";
import { type Bus, hasRoundTrip } from "../../runtime/bus.ts";
import type { Clock } from "../../runtime/clock.ts";
import { streamInfo } from "../../runtime/jetstream-api.ts";
import type { PickerOptions } from "./serving.ts";
import { lastSequence } from "./streams.ts";

const lookMs = 500;
/** The longest time for a round trip. */
const tripMs = 2000;
const connectedMsMin = 1000;
/** Pools that are checked at about the same time share the round trips. */
const sharedMs = 100;

export class Reach {
  readonly #buses: PickerOptions["buses"];
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #tripMsMax: number;
  readonly #timer: NodeJS.Timeout;
  #ledgerOn: number;
  /** When a connection was last made again. */
  #connectedOn = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  readonly #upOn = new Map<Bus, number>();
  #trips: { on: number; all: Promise<boolean> } | undefined;

  constructor(buses: PickerOptions["buses"], clock: Pick<Clock, "monotonic">, tripMsMax = tripMs) {
    this.#tripMsMax = tripMsMax;
    this.#buses = buses;
    this.#clock = clock;
    this.#ledgerOn = clock.monotonic();
    for (const bus of Object.values(buses)) void this.#noteConnections(bus);
    this.#timer = setInterval(() => void this.look(), lookMs);
    this.#timer.unref();
  }

  /**
   * For how long the ledgers' stream has not answered here, or another connection has been down; less than a second
   * if all is well.
   */
  get silentMs(): number {
    const on = this.#clock.monotonic();
    const { ledger: _, ...others } = this.#buses;
    for (const bus of Object.values(others)) if (bus.up || !this.#upOn.has(bus)) this.#upOn.set(bus, on);
    return on - Math.min(this.#ledgerOn, ...this.#upOn.values());
  }

  /** Asks the ledgers' stream. Resolves when it has answered, or cannot be reached. */
  look(): Promise<void> {
    void this.silentMs;
    const askedOn = this.#clock.monotonic();
    this.#looking ??= streamInfo(this.#buses.ledger, ledgerStream)
      .then(
        () => {
          this.#ledgerOn = askedOn;
        },
        () => {},
      )
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  /**
   * Each connection has had a round trip just now, and the pool's ledger was read. Not if one was down a moment ago:
   * then the broker may have restarted, and others may not be connected again.
   */
  async isWhole(pool: string): Promise<boolean> {
    const on = this.#clock.monotonic();
    if (on - this.#connectedOn < connectedMsMin) return false;
    if (this.#trips === undefined || on - this.#trips.on > sharedMs) this.#trips = { on, all: this.#roundTrips() };
    const read = lastSequence(this.#buses.ledger, pool).then(
      () => true,
      () => false,
    );
    return (await this.#trips.all) && (await Promise.race([read, falseAfter(this.#tripMsMax)]));
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #noteConnections(bus: Bus): Promise<void> {
    for (;;) {
      await bus.whenDown().promise.catch(() => {});
      try {
        await bus.whenUp();
      } catch {
        return; // It is closed.
      }
      this.#connectedOn = this.#clock.monotonic();
    }
  }

  async #roundTrips(): Promise<boolean> {
    const trips = await Promise.all(Object.values(this.#buses).map((bus) => hasRoundTrip(bus, this.#tripMsMax)));
    return !trips.includes(false);
  }
}

function falseAfter(ms: number): Promise<boolean> {
  return new Promise((resolve) => setTimeout(resolve, ms, false).unref());
}
