// Which pools this process leads. Each led pool has a leader of its own, made from its ledger; one that is fenced is
// thrown away. A pool that somebody else leads is stood by for: who answers on its leader's subject leads it, and when
// nobody does it is claimed, which the ledger lets only one do.
import { randomBytes } from "node:crypto";
import { type Msg, RequestError, type Subscription } from "@nats-io/transport-node";
import type { Cursor } from "../../events/commit.ts";
import { isRefusal, type Refusal, refuse } from "../../protocol/refusal.ts";
import {
  executorVerbs,
  leaderVerbs,
  ledgerStream,
  ledgerSubject,
  type PoolVerb,
  poolVerbs,
  requestSubject,
  secretsBucket,
} from "../../protocol/subjects.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { isInbox, type Responder } from "../../runtime/responder.ts";
import { openSecrets, type Secrets } from "../../runtime/secrets.ts";
import { watchStalls } from "../../runtime/stall.ts";
import { foreignKey } from "./fold.ts";
import { Leader } from "./leader.ts";
import type { PickerOptions } from "./picker.ts";
import { Requests } from "./requests.ts";
import { isOpen, lastSequence, ledgerSizes, outcomeFeed, outcomeStoredAfter } from "./streams.ts";
import { wantedTokens } from "./tokens.ts";

export interface Served {
  pool: string;
  leader: Leader;
  requests: Requests;
  ledger: JetStreamLedger;
  secrets: Secrets;
  subscriptions: Subscription[];
  claim: Promise<boolean> | undefined;
}

/** Asked of a pool's leader by those who want to lead it, or who were asked something that only it knows. */
const leaderSubject = (pool: string): string => `remuda.leader.${pool}`;
const askLeaderMs = 500;
/** A leader that does not answer so often in a row is taken for hung; that nobody listens must be so twice. */
const hungAfter = 3;
const gonePauseMs = 50;
const standByMs = 300;
/** How often it is looked whether there are pools that nobody here knows of yet. */
const scanMs = 2000;

export class Leadership {
  readonly #id: string;
  readonly #options: PickerOptions;
  readonly #responder: Responder;
  readonly #stalls = watchStalls();
  readonly #served = new Map<string, Served>();
  readonly #preparing = new Map<string, Promise<Served | "elsewhere">>();
  readonly #standingBy = new Set<string>();
  /** How many are opening a pool at this moment. */
  readonly #openers = new Map<string, number>();
  /** Pools with nobody to lead them: closed, by the last commit then; or broken. */
  readonly #closedAt = new Map<string, { sequence: number; messages?: number }>();
  readonly #broken = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(id: string, options: PickerOptions, responder: Responder) {
    this.#id = id;
    this.#options = options;
    this.#responder = responder;
  }

  /** @throws Fault "fix-setup" where a pool can never be led by this installation. */
  async start(): Promise<void> {
    const known = [...(await ledgerSizes(this.#options.buses.ledger)).keys()];
    const faults = await Promise.all(known.map((pool) => this.#lead(pool)));
    const fault = faults.find((each) => each?.code === "fix-setup");
    if (fault !== undefined) throw fault;
    this.#timer = setInterval(() => void this.#scan(), scanMs);
    this.#timer.unref();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#stalls.stop();
    for (const served of [...this.#served.values()]) this.#drop(served);
  }

  /** What leads the pool here; undefined where it is led elsewhere, or not at all. */
  led(pool: string): Served | undefined {
    const served = this.#served.get(pool);
    return served?.leader.leads === true ? served : undefined;
  }

  async open(pool: string, body: unknown, respond: (answer: object) => void): Promise<void> {
    const led = this.led(pool);
    if (led !== undefined) return led.requests.open(body, respond);
    this.#openers.set(pool, (this.#openers.get(pool) ?? 0) + 1);
    try {
      const opened = await this.#prepare(pool);
      if (opened === "elsewhere") return respond(await this.#openElsewhere(pool, body));
      const refusal = opened.leader.leads ? undefined : opened.requests.judgeOpen(body);
      if (refusal !== undefined) {
        // Somebody else may be about to claim what was folded for this one too.
        if (opened.claim === undefined && this.#openers.get(pool) === 1) this.#drop(opened);
        return respond(refusal);
      }
      // The first turn of a new pool claims and opens it in one commit.
      const answered = new Promise<object>((resolve) => opened.requests.open(body, resolve));
      // Told only when the pool's subjects are answered: who hears of it asks at once.
      if (await this.#claim(opened)) respond(await answered);
      else respond(await this.#openElsewhere(pool, body));
    } catch (error) {
      this.#report(pool, error);
      const why = error instanceof Fault ? error.message : "The pool cannot be opened now.";
      respond(refuse("unavailable", why, { retryAfterMs: 1000 }));
    } finally {
      const others = (this.#openers.get(pool) ?? 1) - 1;
      if (others === 0) this.#openers.delete(pool);
      else this.#openers.set(pool, others);
    }
  }

  /** Passes a request on to whoever leads the pool. */
  async ask(pool: string, asked: { verb: PoolVerb; body: unknown }): Promise<object> {
    try {
      const { nc } = this.#options.buses.follower;
      const reply = await nc.request(leaderSubject(pool), JSON.stringify(asked), { timeout: 5000 });
      return reply.json<object>();
    } catch (error) {
      const again = { retryAfterMs: 1000 };
      if (!isNobody(error)) return refuse("unavailable", `The leader of the pool ${pool} does not answer.`, again);
      // Between two leaders nobody answers either, and that is no reason to give the pool up.
      if (await isOpen(this.#options.buses.ledger, pool).catch(() => true))
        return refuse("unavailable", `The pool ${pool} has no leader at the moment.`, again);
      return refuse("unknown-pool", `The pool ${pool} is not open. Open it first (pool open).`);
    }
  }

  async #openElsewhere(pool: string, body: unknown): Promise<object> {
    this.#standBy(pool);
    return this.ask(pool, { verb: "pool.open", body });
  }

  async #scan(): Promise<void> {
    try {
      for (const [pool, messages] of await ledgerSizes(this.#options.buses.ledger)) {
        if (this.#served.has(pool) || this.#broken.has(pool)) continue;
        if (!(await this.#isStillClosed(pool, messages))) this.#standBy(pool);
      }
    } catch {
      // The broker is away; the next look will tell.
    }
  }

  /** As it was seen here: another picker may have opened it since. Asked of the ledger only where it has grown. */
  async #isStillClosed(pool: string, messages: number): Promise<boolean> {
    const closed = this.#closedAt.get(pool);
    if (closed === undefined) return false;
    if (closed.messages === messages) return true;
    closed.messages = messages;
    const isSame = (await lastSequence(this.#options.buses.ledger, pool)) === closed.sequence;
    if (!isSame) this.#closedAt.delete(pool);
    return isSame;
  }

  /** Leads the pool if it is open and nobody else does; otherwise stands by. Returns why it never can. */
  async #lead(pool: string): Promise<Fault | undefined> {
    try {
      const prepared = await this.#prepare(pool);
      if (prepared === "elsewhere") this.#standBy(pool);
      else if (prepared.leader.state.opened) await this.#claim(prepared);
      else if (prepared.claim === undefined && !this.#openers.has(pool)) {
        this.#closedAt.set(pool, { sequence: prepared.leader.sequence });
        this.#drop(prepared);
      }
    } catch (error) {
      if (this.#stopped) return undefined;
      this.#report(pool, error);
      if (error instanceof Fault && error.code !== "retry-later") {
        this.#broken.add(pool);
        return error;
      }
      this.#standBy(pool);
    }
    return undefined;
  }

  #prepare(pool: string): Promise<Served | "elsewhere"> {
    const present = this.#served.get(pool);
    if (present !== undefined) return Promise.resolve(present);
    let preparing = this.#preparing.get(pool);
    if (preparing === undefined) {
      preparing = this.#fold(pool).finally(() => this.#preparing.delete(pool));
      this.#preparing.set(pool, preparing);
    }
    return preparing;
  }

  async #fold(pool: string): Promise<Served | "elsewhere"> {
    if (await this.#isLed(pool)) return "elsewhere";
    const { buses, key, signer, clock = systemClock, log } = this.#options;
    let leader: Leader | undefined; // It is made on its ledger.
    const ledger = new JetStreamLedger({
      bus: buses.ledger,
      stream: ledgerStream,
      subject: ledgerSubject(pool),
      onDoubt: (why) => {
        leader?.metrics.ambiguousAttempt();
        log.warn({ pool, why }, "the result of a commit is unknown; asking again");
      },
    });
    const onTrouble = (error: unknown): void =>
      log.warn({ pool, why: String(error) }, "outcomes cannot be followed; trying again");
    const folded = await Leader.fold({
      pool,
      id: this.#id,
      ledger,
      feed: outcomeFeed(buses.follower, pool, onTrouble),
      clock,
      key,
      signer,
      onEnd: (why) => this.#ended(pool, folded, why),
    });
    leader = folded;
    const secrets = await openSecrets(buses.ledger, { bucket: secretsBucket, under: pool, key });
    const watched = {
      outcomeStoredAfter: (cursor: Cursor) => outcomeStoredAfter(buses.follower, pool, cursor),
      stallMs: () => this.#stalls.view(),
    };
    const requests = new Requests({ leader, secrets, key, newLeaseId: leaseIds(), watched });
    const served: Served = { pool, leader, requests, ledger, secrets, subscriptions: [], claim: undefined };
    this.#served.set(pool, served);
    this.#closedAt.delete(pool);
    return served;
  }

  #claim(served: Served): Promise<boolean> {
    served.claim ??= this.#claimOnce(served);
    return served.claim;
  }

  async #claimOnce(served: Served): Promise<boolean> {
    const { pool, leader, requests, secrets } = served;
    const { nc } = this.#options.buses.front;
    // From the claim on, not only when all is caught up: who stands by must not take us for gone meanwhile.
    leader.onClaimed = () =>
      void served.subscriptions.push(
        nc.subscribe(leaderSubject(pool), { callback: (_error, message) => this.#answer(served, message) }),
      );
    const isServed = (): boolean => !this.#stopped && this.#served.get(pool) === served;
    if (!(await leader.lead()) || !isServed()) return false;
    // Only the leader knows which secrets are of no use: others may not have seen the proxies that they belong to.
    const wanted = wantedTokens(leader.state);
    try {
      await secrets.prune((id) => leader.state.proxies.has(id) || wanted(id));
    } catch (why) {
      this.#options.log.warn(
        { pool, why: String(why) },
        "secrets of no use are still stored; the next leader tries again",
      );
    }
    // Who has lost the pool meanwhile must not answer beside the next leader.
    if (!isServed()) return false;
    served.subscriptions.push(
      ...[...leaderVerbs, ...executorVerbs].map((verb) =>
        this.#responder.serve({ name: verb, subject: requestSubject(verb, pool) }, ({ body, respond }) =>
          requests.handle(verb, body, respond),
        ),
      ),
    );
    try {
      await nc.flush();
    } catch (error) {
      this.#drop(served);
      this.#standBy(pool);
      throw error;
    }
    const { term, proxies, commits } = leader.state;
    this.#options.log.info({ pool, term, proxies: proxies.size, commits }, "leading the pool");
    return leader.leads;
  }

  #answer(served: Served, message: Msg): void {
    if (!isInbox(message.reply)) return;
    const respond = (answer: object): void => void message.respond(JSON.stringify(answer));
    if (message.data.length === 0) {
      const { fingerprint } = this.#options.key;
      return respond({ leader: this.#id, term: served.leader.state.term, key: fingerprint });
    }
    try {
      const { verb, body } = message.json<{ verb: PoolVerb; body: unknown }>();
      if (!poolVerbs.includes(verb)) throw new Error(`no verb ${String(verb)}`);
      if (!served.leader.leads) {
        return respond(refuse("unavailable", "The pool's leader is starting.", { retryAfterMs: 500 }));
      }
      if (verb === "pool.open") served.requests.open(body, respond);
      else served.requests.handle(verb, body, respond);
    } catch {
      respond(refuse("invalid-request", "This subject is for pickers among themselves."));
    }
  }

  async #isLed(pool: string): Promise<boolean> {
    let nobody = 0;
    for (let attempt = 0; attempt < hungAfter && nobody < 2; attempt++) {
      try {
        const reply = await this.#options.buses.follower.nc.request(leaderSubject(pool), "", { timeout: askLeaderMs });
        const { key } = reply.json<{ key?: string }>();
        if (key !== undefined && key !== this.#options.key.fingerprint) throw foreignKey(pool);
        return true;
      } catch (error) {
        if (error instanceof Fault) throw error;
        if (!isNobody(error)) continue;
        nobody++;
        if (nobody < 2) await new Promise((resolve) => setTimeout(resolve, gonePauseMs));
      }
    }
    return false;
  }

  #standBy(pool: string): void {
    if (this.#standingBy.has(pool) || this.#stopped) return;
    this.#standingBy.add(pool);
    // Apart by chance, so that two that stand by do not claim in turns.
    const wait = standByMs + Math.floor(Math.random() * standByMs);
    setTimeout(() => {
      this.#standingBy.delete(pool);
      if (!this.#stopped) void this.#lead(pool);
    }, wait).unref();
  }

  #ended(pool: string, leader: Leader, why: "fenced" | "closed" | Fault): void {
    const served = this.#served.get(pool);
    if (served?.leader === leader) this.#drop(served);
    if (why instanceof Fault) {
      this.#broken.add(pool);
      this.#report(pool, why);
      return;
    }
    this.#options.log.info({ pool, why }, "no longer leading the pool");
    if (why === "fenced") this.#standBy(pool);
    else this.#closedAt.set(pool, { sequence: leader.sequence });
  }

  #drop(served: Served): void {
    if (this.#served.get(served.pool) === served) this.#served.delete(served.pool);
    for (const subscription of served.subscriptions) subscription.unsubscribe();
    served.ledger.close();
    served.leader.stop();
  }

  #report(pool: string, error: unknown): void {
    if (this.#stopped) return;
    const { log } = this.#options;
    if (error instanceof Fault) log.error({ pool, code: error.code }, error.message);
    else log.error({ pool, err: error }, "the pool cannot be led");
  }
}

/** Opens the pool, waiting out what passes. @throws Fault "fix-setup" where it is refused for good. */
export async function openPool(leadership: Leadership, pool: string): Promise<void> {
  let refusal: Refusal | undefined;
  for (let attempt = 0; attempt < 20; attempt++) {
    const answer = await new Promise<object>((resolve) => void leadership.open(pool, {}, resolve));
    if (!isRefusal(answer)) return;
    refusal = answer;
    if (answer.code !== "unavailable" && answer.code !== "unknown-pool") break;
    await new Promise((resolve) => setTimeout(resolve, answer.retryAfterMs ?? 500));
  }
  throw new Fault("fix-setup", `The pool ${pool} cannot be opened: ${refusal?.message ?? ""}`);
}

function isNobody(error: unknown): boolean {
  return error instanceof RequestError && error.isNoResponders();
}

/** Makes unguessable ids; asking the system for random bits is dear, so many at a time. */
function leaseIds(): () => string {
  const idBytes = 16;
  const idsAtOnce = 256;
  let bits = Buffer.alloc(0);
  let next = 0;
  return () => {
    if (next >= bits.length) {
      bits = randomBytes(idBytes * idsAtOnce);
      next = 0;
    }
    next += idBytes;
    return `l_${bits.toString("base64url", next - idBytes, next)}`;
  };
}
