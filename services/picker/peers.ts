// Communication between pickers: requests that only a pool's leader can answer are passed on, and a new leader says
// that it leads. liveness.ts tells which pools are led.
import type { Msg, Subscription } from "@nats-io/transport-node";
import { noticeIn } from "../../protocol/notice.ts";
import { overNats } from "../../protocol/over-nats.ts";
import { refuse } from "../../protocol/refusal.ts";
import { parseJson } from "../../protocol/request.ts";
import { noticeSubject, noticeSubjects } from "../../protocol/subjects.ts";
import { type PoolVerb, poolVerbs } from "../../protocol/verbs.ts";
import { drained, isNoResponders } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Defects } from "../../runtime/defects.ts";
import { Responder } from "../../runtime/responder.ts";
import { Crew } from "./crew.ts";
import type { Leader } from "./leader.ts";
import { Liveness } from "./liveness.ts";
import type { Seen } from "./pool-time.ts";
import { Reach } from "./reach.ts";
import type { Requests } from "./requests.ts";
import type { PickerOptions } from "./serving.ts";
import { isOpen } from "./streams.ts";
import { anybody, type Who } from "./who.ts";

/** A request that another picker passes on. */
interface Passed {
  verb: PoolVerb;
  body: unknown;
  who: Who;
}

/** Its requests come from another picker, which has read them and made them larger. */
const betweenPickers = {
  ...overNats,
  read: ({ text }: { text: () => string | undefined }) => parseJson(text() ?? "?"),
  senderOf: () => "",
  noted: () => ({}),
  noteOf: () => undefined,
};

interface Led {
  pool: string;
  leader: Pick<Leader, "leads" | "state" | "now" | "isSure" | "silentMs" | "submit">;
  requests: Pick<Requests, "open" | "handle">;
}

const leaderSubject = (pool: string): string => `remuda.leader.${pool}`;
const passOnMs = 5000;
/** How long a request waits for the next leader, and how often it is sent meanwhile: after longer and longer pauses. */
const leaderlessMsMax = 1000;
const leaderlessPauseMs = 20;

export class Peers {
  readonly #id: string;
  readonly #buses: PickerOptions["buses"];
  readonly #responder: Responder;
  readonly #reach: Reach;
  readonly #liveness: Liveness;
  readonly #crew: Crew;

  /** @param id the id of this picker. */
  constructor(id: string, options: Pick<PickerOptions, "buses" | "key" | "clock" | "log" | "defects">) {
    this.#id = id;
    this.#buses = options.buses;
    this.#reach = new Reach(options.buses, options.clock ?? systemClock);
    this.#liveness = new Liveness(id, options, this.#reach);
    const { buses, log, defects = new Defects(log) } = options;
    this.#responder = new Responder(buses.front.nc, betweenPickers, log, { defects });
    this.#crew = new Crew({ id, bus: buses.peers, clock: options.clock ?? systemClock });
  }

  /** @throws Fault "fix-setup" if the pool's leader has another installation's key. */
  isLed(pool: string): Promise<boolean> {
    return this.#liveness.isLed(pool);
  }

  /** Whether this picker should follow a pool that another one leads. */
  follows(pool: string): boolean {
    return this.#crew.follows(pool, this.#liveness.leaderOf(pool));
  }

  /** Whether this picker, of all that run, looks after a pool that none of them leads. */
  keeps(pool: string): boolean {
    return this.#crew.follows(pool, undefined, 1);
  }

  /** Whether all running pickers know what a ledger of this level says (events/level.ts). */
  knows(level: number): boolean {
    return this.#crew.knows(level);
  }

  /** Calls back when the process of the pool's leader is gone, until the returned function is called. */
  onGone(pool: string, callback: () => void): () => void {
    return this.#liveness.onGone(pool, callback);
  }

  /** The pool's time as its leader told it last. */
  seen(pool: string): Seen | undefined {
    return this.#liveness.seen(pool);
  }

  /**
   * Passes a request on to the picker that leads the pool.
   * @param given.waitMs between two leaders it waits this long for the next one. Absent: a little.
   */
  async ask(pool: string, asked: Passed, { waitMs = leaderlessMsMax } = {}): Promise<object> {
    const until = performance.now() + waitMs;
    for (let pauseMs = leaderlessPauseMs; ; pauseMs *= 2) {
      const answer = await this.#pass(pool, asked);
      if (answer !== "unanswered" && !("isStarting" in answer)) return answer;
      // Between two leaders there is no answer either. That is no reason to give the pool up.
      if (answer === "unanswered" && !(await isOpen(this.#buses.ledger, pool).catch(() => true)))
        return refuse("unknown-pool", `The pool ${pool} is not open. Open it first (pool open).`);
      if (performance.now() + pauseMs > until)
        return refuse("unavailable", `The pool ${pool} has no leader at the moment.`, { retryAfterMs: 1000 });
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  async #pass(pool: string, asked: Passed): Promise<object | "unanswered"> {
    try {
      const { nc } = this.#buses.follower;
      const reply = await nc.request(leaderSubject(pool), JSON.stringify(asked), { timeout: passOnMs });
      return reply.json<object>();
    } catch (error) {
      if (isNoResponders(error)) return "unanswered";
      return refuse("unavailable", `The leader of the pool ${pool} does not answer.`, { retryAfterMs: 1000 });
    }
  }

  /** Tells clients and other pickers which picker leads the pool. Resolves when the broker has passed it on. */
  async announce(pool: string, term: number): Promise<void> {
    const { follower } = this.#buses;
    await follower.whenUp();
    follower.nc.publish(noticeSubject(pool), JSON.stringify({ leader: this.#id, term }));
    await follower.nc.flush();
  }

  /** Calls back when a picker says that it leads a pool under this term. */
  hear(onNotice: (pool: string, term: number) => void): Subscription {
    const callback = (error: Error | null, message: Msg): void => {
      if (error !== null) return;
      const notice = noticeIn(message.string());
      if (notice === undefined) return;
      const pool = message.subject.slice(noticeSubject("").length);
      this.#liveness.noticed(pool, notice.leader);
      onNotice(pool, notice.term);
    };
    return this.#buses.front.nc.subscribe(noticeSubjects, { callback });
  }

  /** Answers the other pickers until the subscription ends. After `shut` it only says that it leads the pool. */
  answer(served: Led): Pick<Subscription, "unsubscribe"> & { shut: () => Promise<void> } {
    const endpoint = { name: "leader", subject: leaderSubject(served.pool) };
    const subscription = this.#responder.serve(endpoint, ({ body, respond }) => this.#answer(served, body, respond));
    const remove = this.#liveness.add(served.pool, served.leader);
    return {
      unsubscribe() {
        remove();
        subscription.unsubscribe();
      },
      shut: () => drained(this.#buses.front, [subscription]),
    };
  }

  stop(): void {
    this.#crew.stop();
    this.#liveness.stop();
    this.#reach.stop();
  }

  #answer({ leader, requests }: Led, asked: unknown, respond: (answer: object) => void): Promise<void> | void {
    const { verb, body, who = anybody } = (asked ?? {}) as Partial<Passed>; // Only pickers may send there.
    if (verb === undefined || !poolVerbs.includes(verb))
      return respond(refuse("invalid-request", "Only pickers may use this subject."));
    if (!leader.leads) return respond(starting);
    return verb === "pool.open" ? requests.open(body, respond, who) : requests.handle(verb, body, respond, who);
  }
}

const starting = {
  ...refuse("unavailable", "The pool's leader is starting.", { retryAfterMs: 500 }),
  isStarting: true,
};
