// The running pickers, and those of them that follow a pool: two beside its leader, by rendezvous hash. So each pool
// has its followers without any agreement, pools spread evenly, and only a few move when a picker comes or goes.
import { createHash } from "node:crypto";
import type { Msg, Subscription } from "@nats-io/transport-node";
import { ledgerLevel, levels } from "../../events/level.ts";
import { pickerSubject } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import type { Clock } from "../../runtime/clock.ts";

interface Given {
  /** Of this picker. */
  id: string;
  bus: Bus;
  clock: Pick<Clock, "monotonic">;
}

/** A picker's repeated message about itself. */
interface Presence {
  picker: string;
  /** What it knows of ledgers (events/level.ts). Absent: the first level. */
  level?: number;
  /** It has just come, and does not know the others. */
  isNew?: true;
  hasLeft?: true;
}

const followersMax = 2;
const sayEveryMs = 1000;
const silentMsMax = 3 * sayEveryMs;
const subject = pickerSubject("crew");

export class Crew {
  readonly #given: Given;
  /** When each of the others was heard last, and its level. */
  readonly #heard = new Map<string, { on: number; level: number }>();
  readonly #subscription: Subscription;
  readonly #timer: NodeJS.Timeout;

  constructor(given: Given) {
    this.#given = given;
    const callback = (error: Error | null, message: Msg): void => {
      if (error === null) this.#hear(message.json<Presence>()); // Only pickers send here.
    };
    this.#subscription = given.bus.nc.subscribe(subject, { callback });
    this.#say({ isNew: true });
    this.#timer = setInterval(() => this.#say({}), sayEveryMs);
    this.#timer.unref();
  }

  /**
   * Whether this picker is among those that hold the state of a pool that another picker leads.
   * @param leader undefined: not known. @param most how many there are.
   */
  follows(pool: string, leader: string | undefined, most = followersMax): boolean {
    const { id } = this.#given;
    return followersOf(pool, { leader, pickers: [id, ...this.#others().keys()] })
      .slice(0, most)
      .includes(id);
  }

  /** Whether all running pickers know what a ledger of this level says. */
  knows(level: number): boolean {
    return [...this.#others().values()].every((other) => other.level >= level);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#subscription.unsubscribe();
    this.#say({ hasLeft: true });
  }

  #others(): ReadonlyMap<string, { level: number }> {
    const { clock } = this.#given;
    for (const [other, { on }] of this.#heard) if (clock.monotonic() - on > silentMsMax) this.#heard.delete(other);
    return this.#heard;
  }

  #hear({ picker, level = levels.first, isNew, hasLeft }: Presence): void {
    const { id, clock } = this.#given;
    if (picker === id) return;
    if (hasLeft === true) this.#heard.delete(picker);
    else this.#heard.set(picker, { on: clock.monotonic(), level });
    if (isNew === true) this.#say({});
  }

  #say(more: Partial<Presence>): void {
    const { id, bus } = this.#given;
    if (bus.up && !bus.nc.isClosed())
      bus.nc.publish(subject, JSON.stringify({ picker: id, level: ledgerLevel, ...more }));
  }
}

/** The first is the next leader, if it lives. */
export function followersOf(pool: string, given: { leader: string | undefined; pickers: readonly string[] }): string[] {
  return given.pickers
    .filter((id) => id !== given.leader)
    .map((id) => ({ id, weight: createHash("sha256").update(`${pool}\n${id}`).digest("hex") }))
    .sort((a, b) => (a.weight < b.weight ? 1 : -1))
    .slice(0, followersMax)
    .map(({ id }) => id);
}
