// Communication between pickers. Each picker answers on one subject for every pool that it leads. So the others know
// which picker leads a pool, and pass on requests that only its leader can answer.
import { type Msg, RequestError, type Subscription } from "@nats-io/transport-node";
import { refuse } from "../../protocol/refusal.ts";
import { noticeSubject, noticeSubjects } from "../../protocol/subjects.ts";
import { type PoolVerb, poolVerbs } from "../../protocol/verbs.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { isInbox } from "../../runtime/responder.ts";
import { foreignKey } from "./fold.ts";
import type { Leader } from "./leader.ts";
import type { Seen } from "./pool-time.ts";
import type { Requests } from "./requests.ts";
import type { PickerOptions } from "./serving.ts";
import { isOpen } from "./streams.ts";
import { anybody, type Who } from "./who.ts";

interface Led {
  pool: string;
  leader: Pick<Leader, "leads" | "state" | "now" | "isSure" | "submit">;
  requests: Pick<Requests, "open" | "handle">;
}

const leaderSubject = (pool: string): string => `remuda.leader.${pool}`;
const askLeaderMs = 500;
const passOnMs = 5000;
/** A leader that fails to answer this often in a row counts as hung. A missing subscriber must be seen twice. */
const hungAfter = 3;
const gonePauseMs = 50;

export class Peers {
  readonly #id: string;
  readonly #options: Pick<PickerOptions, "buses" | "key" | "clock">;
  readonly #seen = new Map<string, Seen>();

  /** @param id the id of this picker. */
  constructor(id: string, options: Pick<PickerOptions, "buses" | "key" | "clock">) {
    this.#id = id;
    this.#options = options;
  }

  /** @throws Fault "fix-setup" if the pool's leader has another installation's key. */
  async isLed(pool: string): Promise<boolean> {
    let unanswered = 0;
    for (let attempt = 0; attempt < hungAfter && unanswered < 2; attempt++) {
      try {
        const reply = await this.#options.buses.follower.nc.request(leaderSubject(pool), "", { timeout: askLeaderMs });
        const { key, term, at } = reply.json<{ key?: string; term?: number; at?: number }>();
        if (key !== undefined && key !== this.#options.key.fingerprint) throw foreignKey(pool);
        const on = (this.#options.clock ?? systemClock).monotonic();
        if (term !== undefined && at !== undefined) this.#seen.set(pool, { term, at, on });
        return true;
      } catch (error) {
        if (error instanceof Fault) throw error;
        if (!isUnanswered(error)) continue;
        unanswered++;
        if (unanswered < 2) await new Promise((resolve) => setTimeout(resolve, gonePauseMs));
      }
    }
    return false;
  }

  /** The pool's time as its leader told it last. */
  seen(pool: string): Seen | undefined {
    return this.#seen.get(pool);
  }

  /** Passes a request on to the picker that leads the pool. */
  async ask(pool: string, asked: { verb: PoolVerb; body: unknown; who: Who }): Promise<object> {
    try {
      const { nc } = this.#options.buses.follower;
      const reply = await nc.request(leaderSubject(pool), JSON.stringify(asked), { timeout: passOnMs });
      return reply.json<object>();
    } catch (error) {
      const again = { retryAfterMs: 1000 };
      if (!isUnanswered(error)) return refuse("unavailable", `The leader of the pool ${pool} does not answer.`, again);
      // There is no answer between two leaders either. That is no reason to give the pool up.
      if (await isOpen(this.#options.buses.ledger, pool).catch(() => true))
        return refuse("unavailable", `The pool ${pool} has no leader at the moment.`, again);
      return refuse("unknown-pool", `The pool ${pool} is not open. Open it first (pool open).`);
    }
  }

  /** Tells clients and other pickers which picker leads the pool. Resolves when the broker has passed it on. */
  async announce(pool: string, term: number): Promise<void> {
    const { follower } = this.#options.buses;
    await follower.whenUp();
    follower.nc.publish(noticeSubject(pool), JSON.stringify({ leader: this.#id, term }));
    await follower.nc.flush();
  }

  /** Calls back when a picker says that it leads a pool under this term. */
  hear(onNotice: (pool: string, term: number) => void): Subscription {
    const callback = (error: Error | null, message: Msg): void => {
      if (error !== null) return;
      const term = termIn(message);
      if (term !== undefined) onNotice(message.subject.slice(noticeSubject("").length), term);
    };
    return this.#options.buses.front.nc.subscribe(noticeSubjects, { callback });
  }

  /** Answers the other pickers until the subscription ends. */
  answer(served: Led): Subscription {
    const callback = (_error: Error | null, message: Msg): void => this.#answer(served, message);
    return this.#options.buses.front.nc.subscribe(leaderSubject(served.pool), { callback });
  }

  #answer(served: Led, message: Msg): void {
    if (!isInbox(message.reply)) return;
    const respond = (answer: object): void => void message.respond(JSON.stringify(answer));
    if (message.data.length === 0) {
      const { fingerprint } = this.#options.key;
      const { leader } = served;
      const say = (): void =>
        respond({ leader: this.#id, term: leader.state.term, at: leader.now(), key: fingerprint });
      if (leader.isSure || !leader.leads) return say();
      // Answered once it has proved that it still leads.
      const call = { arrivedAt: leader.now(), who: anybody, respond: say, reply: () => ({}) };
      return leader.submit({ type: "look" }, call);
    }
    try {
      const { verb, body, who } = message.json<{ verb: PoolVerb; body: unknown; who: Who }>();
      if (!poolVerbs.includes(verb)) throw new Error(`no verb ${String(verb)}`);
      if (!served.leader.leads) {
        return respond(refuse("unavailable", "The pool's leader is starting.", { retryAfterMs: 500 }));
      }
      if (verb === "pool.open") served.requests.open(body, respond, who);
      else served.requests.handle(verb, body, respond, who);
    } catch {
      respond(refuse("invalid-request", "Only pickers may use this subject."));
    }
  }
}

/** Undefined: it is no notice. */
function termIn(message: Msg): number | undefined {
  try {
    const { term } = message.json<{ term?: unknown }>();
    return Number.isSafeInteger(term) ? (term as number) : undefined; // It is a number.
  } catch {
    return undefined;
  }
}

function isUnanswered(error: unknown): boolean {
  return error instanceof RequestError && error.isNoResponders();
}
