// The picker: leads the pools that nobody else leads. Each pool has a leader of its own, made from its ledger; one that
// is fenced is thrown away, and the pool is watched until it may be claimed again.
import { randomBytes } from "node:crypto";
import { type Msg, RequestError, type Subscription } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { poolNameSchema } from "../../events/ids.ts";
import type { PoolReply } from "../../events/pool.ts";
import { isRefusal, refuse } from "../../events/refusal.ts";
import {
  isInbox,
  leaderVerbs,
  ledgerStream,
  ledgerSubject,
  type PoolVerb,
  poolListSubject,
  poolVerbs,
  requestSubject,
  secretsBucket,
} from "../../events/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import { answerDiscovery } from "../../runtime/discovery.ts";
import { Fault } from "../../runtime/fault.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { type InstallationKey, openSecrets } from "../../runtime/secrets.ts";
import { FrontCounts, onRequest, serveLeader } from "./front.ts";
import { Leader } from "./leader.ts";
import { Requests } from "./requests.ts";
import { checkClock, ensureStreams, outcomeFeed, poolsWithLedger } from "./streams.ts";

export interface PickerOptions {
  /** Three connections, so that none can hold up another. */
  buses: { ledger: Bus; front: Bus; follower: Bus };
  key: InstallationKey;
  log: Logger;
  version: string;
  ledgerBytesMax: number;
  clock?: Clock;
}

interface Served {
  leader: Leader;
  requests: Requests;
  ledger: JetStreamLedger;
  subscriptions: Subscription[];
  claim: Promise<void> | undefined;
}

/** Asked of a pool's leader by those who want to lead it, or who were asked something that only it knows. */
const leaderSubject = (pool: string): string => `remuda.leader.${pool}`;
const askLeaderMs = 500;
const hungAfter = 3;
const standbyMs = 300;

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

export class Picker {
  readonly id = `picker-${randomBytes(6).toString("hex")}`;
  readonly #options: PickerOptions;
  readonly #served = new Map<string, Served>();
  readonly #opening = new Map<string, Promise<Served | "elsewhere">>();
  readonly #watched = new Set<string>();
  /** How many are opening a pool at this moment. */
  readonly #openers = new Map<string, number>();
  readonly #counts = new FrontCounts();
  readonly #subscriptions: Subscription[] = [];
  #stopped = false;

  constructor(options: PickerOptions) {
    this.#options = options;
  }

  /** Resolves when every pool that has a ledger is led, here or elsewhere. @param open pools to open where they are not. */
  async start(given: { open: readonly string[] }): Promise<void> {
    const { buses, version } = this.#options;
    await ensureStreams(buses.ledger, { ledgerBytesMax: this.#options.ledgerBytesMax });
    await checkClock(buses.ledger);
    const known = await poolsWithLedger(buses.ledger);
    const { nc } = buses.front;
    for (const verb of poolVerbs) {
      const callback = onRequest(
        this.#counts,
        verb,
        (message) => (body, respond) => void this.#poolRequest(verb, message, body, respond),
      );
      this.#subscriptions.push(nc.subscribe(requestSubject(verb, "*"), { queue: "remuda", callback }));
    }
    const list = onRequest(this.#counts, "pool.list", () => (_body, respond) => void this.#list(respond));
    this.#subscriptions.push(nc.subscribe(poolListSubject, { queue: "remuda", callback: list }));
    const startedAt = Date.now();
    this.#subscriptions.push(
      ...answerDiscovery(nc, {
        name: "remuda",
        id: this.id,
        version,
        description: "Leases forward proxies",
        startedAt,
        endpoints: () => this.#counts.endpoints([...leaderVerbs, ...poolVerbs]),
      }),
    );
    await nc.flush();
    await Promise.all(known.map((pool) => this.#lead(pool)));
    for (const pool of given.open) {
      const answer = await new Promise<object>((resolve) => void this.#open(pool, {}, resolve));
      if (isRefusal(answer)) throw new Fault("fix-setup", `The pool ${pool} cannot be opened: ${answer.message}`);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    for (const pool of [...this.#served.keys()]) this.#drop(pool);
  }

  async #poolRequest(verb: PoolVerb, message: Msg, body: unknown, respond: (answer: object) => void): Promise<void> {
    const pool = message.subject.slice(requestSubject(verb, "").length);
    const named = poolNameSchema.safeParse(pool);
    if (!named.success) {
      const why = named.error.issues[0]?.message ?? "is no pool's name";
      return respond(refuse("invalid-request", `pool: ${why}.`, { field: "pool" }));
    }
    if (verb === "pool.open") return this.#open(pool, body, respond);
    const served = this.#served.get(pool);
    if (served?.leader.leads === true) return served.requests.handle(verb, body, respond);
    respond(await this.#askLeader(pool, { verb, body }));
  }

  async #open(pool: string, body: unknown, respond: (answer: object) => void): Promise<void> {
    const served = this.#served.get(pool);
    if (served?.leader.leads === true) return served.requests.open(body, respond);
    this.#openers.set(pool, (this.#openers.get(pool) ?? 0) + 1);
    try {
      const opened = await this.#prepare(pool);
      if (opened === "elsewhere") return respond(await this.#askLeader(pool, { verb: "pool.open", body }));
      const refusal = opened.leader.leads ? undefined : opened.requests.judgeOpen(body);
      if (refusal !== undefined) {
        // Somebody else may be about to claim what was folded for this one too.
        if (opened.claim === undefined && this.#openers.get(pool) === 1) this.#drop(pool);
        return respond(refusal);
      }
      // The first turn of a new pool claims and opens it in one commit.
      const answered = new Promise<object>((resolve) => opened.requests.open(body, resolve));
      // Told only when the pool's subjects are answered: who hears of it asks at once.
      await this.#claim(pool, opened);
      if (opened.leader.leads) respond(await answered);
      else respond(refuse("unavailable", "Another picker leads the pool by now.", { retryAfterMs: 1000 }));
    } catch (error) {
      this.#report(pool, error);
      respond(
        refuse("unavailable", error instanceof Fault ? error.message : "The pool cannot be opened now.", {
          retryAfterMs: 1000,
        }),
      );
    } finally {
      const others = (this.#openers.get(pool) ?? 1) - 1;
      if (others === 0) this.#openers.delete(pool);
      else this.#openers.set(pool, others);
    }
  }

  async #list(respond: (answer: object) => void): Promise<void> {
    try {
      const names = await poolsWithLedger(this.#options.buses.follower);
      const pools = await Promise.all(names.sort().map((pool) => this.#describe(pool)));
      respond({ pools: pools.filter((pool) => pool !== undefined) });
    } catch {
      respond(refuse("unavailable", "The list of pools cannot be read now.", { retryAfterMs: 1000 }));
    }
  }

  async #describe(pool: string): Promise<PoolReply | undefined> {
    const served = this.#served.get(pool);
    const answer =
      served?.leader.leads === true
        ? await new Promise<object>((resolve) => served.requests.handle("pool.get", {}, resolve))
        : await this.#askLeader(pool, { verb: "pool.get", body: {} });
    return isRefusal(answer) ? undefined : (answer as PoolReply); // What pool.get answers.
  }

  /** Passes a request on to whoever leads the pool. */
  async #askLeader(pool: string, asked: { verb: PoolVerb; body: unknown }): Promise<object> {
    try {
      const { nc } = this.#options.buses.follower;
      const reply = await nc.request(leaderSubject(pool), JSON.stringify(asked), { timeout: 5000 });
      return reply.json<object>();
    } catch {
      return refuse("unknown-pool", `The pool ${pool} is not open. Open it with remuda.pool.open.${pool}.`);
    }
  }

  /** Leads the pool if it is open and nobody else does; otherwise stands by. */
  async #lead(pool: string): Promise<void> {
    try {
      const prepared = await this.#prepare(pool);
      if (prepared === "elsewhere") return this.#standBy(pool);
      if (prepared.leader.state.opened) await this.#claim(pool, prepared);
      else this.#drop(pool);
    } catch (error) {
      this.#report(pool, error);
      if (!(error instanceof Fault) || error.code === "retry-later") this.#standBy(pool);
    }
  }

  #prepare(pool: string): Promise<Served | "elsewhere"> {
    const present = this.#served.get(pool);
    if (present !== undefined) return Promise.resolve(present);
    let preparing = this.#opening.get(pool);
    if (preparing === undefined) {
      preparing = this.#fold(pool).finally(() => this.#opening.delete(pool));
      this.#opening.set(pool, preparing);
    }
    return preparing;
  }

  async #fold(pool: string): Promise<Served | "elsewhere"> {
    if (await this.#isLed(pool)) return "elsewhere";
    const { buses, key, clock = systemClock, log } = this.#options;
    const onDoubt = (why: string): void => log.warn({ pool, why }, "the result of a commit is unknown; asking again");
    const ledger = new JetStreamLedger({
      bus: buses.ledger,
      stream: ledgerStream,
      subject: ledgerSubject(pool),
      onDoubt,
    });
    const onTrouble = (error: unknown): void =>
      log.warn({ pool, why: String(error) }, "outcomes cannot be followed; trying again");
    const leader = await Leader.fold({
      pool,
      id: this.id,
      ledger,
      feed: outcomeFeed(buses.follower, pool, onTrouble),
      clock,
      key,
      onEnd: (why) => this.#ended(pool, why),
    });
    const secrets = await openSecrets(buses.follower, { bucket: secretsBucket, under: pool, key });
    await secrets.prune((id) => leader.state.proxies.has(id));
    const served: Served = {
      leader,
      requests: new Requests({ leader, secrets, key, newLeaseId: leaseIds() }),
      ledger,
      subscriptions: [],
      claim: undefined,
    };
    this.#served.set(pool, served);
    return served;
  }

  #claim(pool: string, served: Served): Promise<void> {
    served.claim ??= this.#claimOnce(pool, served);
    return served.claim;
  }

  async #claimOnce(pool: string, served: Served): Promise<void> {
    const { nc } = this.#options.buses.front;
    if (!(await served.leader.lead())) return;
    if (this.#stopped || this.#served.get(pool) !== served) return;
    served.subscriptions.push(
      nc.subscribe(leaderSubject(pool), { callback: (_error, message) => this.#answerAsLeader(served, message) }),
    );
    served.subscriptions.push(
      ...(await serveLeader(nc, this.#counts, {
        pool,
        handle: (verb) => (body, respond) => served.requests.handle(verb, body, respond),
      })),
    );
    const { state } = served.leader;
    this.#options.log.info(
      { pool, term: state.term, proxies: state.proxies.size, commits: state.commits },
      "leading the pool",
    );
  }

  #answerAsLeader(served: Served, message: Msg): void {
    if (!isInbox(message.reply)) return;
    if (message.data.length === 0) {
      message.respond(JSON.stringify({ leader: this.id, term: served.leader.state.term }));
      return;
    }
    const { verb, body } = message.json<{ verb: PoolVerb; body: unknown }>(); // Sent by another picker.
    const respond = (answer: object): void => void message.respond(JSON.stringify(answer));
    if (verb === "pool.open") served.requests.open(body, respond);
    else served.requests.handle(verb, body, respond);
  }

  /** Does another process lead the pool? One that does not answer three times is taken for hung. */
  async #isLed(pool: string): Promise<boolean> {
    for (let attempt = 0; attempt < hungAfter; attempt++) {
      try {
        await this.#options.buses.follower.nc.request(leaderSubject(pool), "", { timeout: askLeaderMs });
        return true;
      } catch (error) {
        if (error instanceof RequestError && error.isNoResponders()) return false;
      }
    }
    return false;
  }

  #standBy(pool: string): void {
    if (this.#watched.has(pool) || this.#stopped) return;
    this.#watched.add(pool);
    // Apart by chance, so that two that stand by do not claim in turns.
    const wait = standbyMs + Math.floor(Math.random() * standbyMs);
    setTimeout(() => {
      this.#watched.delete(pool);
      if (!this.#stopped) void this.#lead(pool);
    }, wait).unref();
  }

  #ended(pool: string, why: "fenced" | "closed" | Fault): void {
    this.#drop(pool);
    if (why instanceof Fault) this.#report(pool, why);
    else {
      this.#options.log.info({ pool, why }, "no longer leading the pool");
      if (why === "fenced") this.#standBy(pool);
    }
  }

  #drop(pool: string): void {
    const served = this.#served.get(pool);
    this.#served.delete(pool);
    for (const subscription of served?.subscriptions ?? []) subscription.unsubscribe();
    served?.ledger.close();
    served?.leader.stop();
  }

  #report(pool: string, error: unknown): void {
    const { log } = this.#options;
    if (error instanceof Fault) log.error({ pool, code: error.code }, error.message);
    else log.error({ pool, err: error }, "the pool cannot be led");
  }
}
