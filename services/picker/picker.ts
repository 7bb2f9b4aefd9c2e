// The picker: leads pools, and answers for them on NATS. This file has the subjects that any picker answers
// (`remuda.pool.*` and discovery). The subjects of a pool's leader are subscribed where the pool is led.
import { randomBytes } from "node:crypto";
import type { Subscription } from "@nats-io/transport-node";
import { contract } from "../../protocol/contract.ts";
import { withWarnings } from "../../protocol/fields.ts";
import { overNats, poolIn } from "../../protocol/over-nats.ts";
import type { PoolReply } from "../../protocol/pool.ts";
import { isRefusal, refuse } from "../../protocol/refusal.ts";
import { readRequest } from "../../protocol/request.ts";
import { poolListSubject, requestSubject } from "../../protocol/subjects.ts";
import { type PoolVerb, poolVerbs, type Verb, verbs, verbsBy } from "../../protocol/verbs.ts";
import { drained } from "../../runtime/bus.ts";
import { Defects } from "../../runtime/defects.ts";
import { answerDiscovery } from "../../runtime/discovery.ts";
import { Fault } from "../../runtime/fault.ts";
import { Intake } from "../../runtime/intake.ts";
import { type Asked, Responder } from "../../runtime/responder.ts";
import { Leadership } from "./leadership.ts";
import { openPool } from "./open-pool.ts";
import type { PickerOptions } from "./serving.ts";
import { ensureStreams, type NeededStream, neededStreams } from "./stream-settings.ts";
import { StreamWatch } from "./stream-watch.ts";
import { type Who, whoSent } from "./who.ts";

const describeMsMax = 2000;
/** Of one user: each list asks every pool. */
const listsAtOnce = 16;

export class Picker {
  readonly id = `picker-${randomBytes(6).toString("hex")}`;
  readonly #options: PickerOptions;
  readonly #intake = new Intake();
  readonly #responder: Responder;
  readonly #leadership: Leadership;
  readonly #needed: readonly NeededStream[];
  readonly #streams: StreamWatch;
  readonly #subscriptions: Subscription[] = [];

  constructor(options: PickerOptions) {
    this.#options = options;
    const { buses, log, defects = new Defects(log), onFrozen, streamsEveryMs: everyMs } = options;
    this.#responder = new Responder(buses.front.nc, overNats, log, { defects, intake: this.#intake });
    this.#needed = neededStreams(buses, options);
    this.#leadership = new Leadership(this.id, options, this.#responder);
    const secretEntries = (): number => this.#leadership.secretEntries();
    this.#streams = new StreamWatch({ needed: this.#needed, log, secretEntries, onFrozen, everyMs });
  }

  /**
   * Resolves when every pool that has a ledger is led, here or elsewhere, or makes no progress.
   * @param open pools to open if they are not.
   * @throws Fault if the set-up must be fixed first.
   */
  async start(given: { open: readonly string[] }): Promise<void> {
    const { buses } = this.#options;
    await ensureStreams(this.#needed);
    this.#streams.start();
    this.#subscribe();
    await buses.front.nc.flush();
    await this.#leadership.start();
    const open = await this.#leadership.openPools();
    for (const pool of given.open.filter((each) => !open.includes(each))) await this.#open(pool);
  }

  /**
   * Answers what has come, and hands its pools over. Resolves when it is silent and has stored everything that
   * the next start needs.
   */
  async stop(): Promise<void> {
    this.#streams.stop();
    await drained(this.#options.buses.front, this.#subscriptions.splice(0));
    await this.#leadership.stop();
  }

  /** A pool that cannot be opened ends no other one. */
  async #open(pool: string): Promise<void> {
    try {
      await openPool(this.#leadership, pool);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#options.log.error({ pool, code: error.code }, error.message);
    }
  }

  #subscribe(): void {
    const { buses, version } = this.#options;
    const { nc } = buses.front;
    const endpointOf = (name: Verb) => ({ name, subject: requestSubject(name, "*") });
    for (const verb of poolVerbs) {
      const served = { ...endpointOf(verb), queue: "remuda" };
      this.#subscriptions.push(this.#responder.serve(served, (asked) => this.#poolRequest(verb, asked)));
    }
    const deletion = { ...endpointOf("pool.delete"), queue: "remuda" };
    this.#subscriptions.push(this.#responder.serve(deletion, (asked) => this.#delete(asked)));
    const asked = verbsBy("leader").filter((verb) => verbs[verb].for !== "executors");
    const listed = [...asked, ...poolVerbs, "pool.delete" as const].map(endpointOf);
    const list = { name: "pool.list", subject: poolListSubject, queue: "remuda", atOnceMax: listsAtOnce };
    this.#subscriptions.push(this.#responder.serve(list, (asked) => this.#list(asked)));
    this.#subscriptions.push(
      ...answerDiscovery(nc, this.#intake, {
        name: "remuda",
        id: this.id,
        version,
        description: "Leases forward proxies",
        startedAt: Date.now(),
        endpoints: () => this.#responder.endpoints(listed),
      }),
    );
  }

  async #poolRequest(verb: PoolVerb, asked: Asked): Promise<void> {
    const { subject, body, respond } = asked;
    const who = whoSent(asked, this.#options.users);
    const named = poolIn(subject, verb);
    if ("refusal" in named) return respond(named.refusal);
    const pool = named.value;
    if (verb === "pool.open") return this.#leadership.open(pool, { body, respond, who });
    respond(await this.#leadership.ask(pool, { verb, body, who }));
  }

  async #delete({ subject, body, respond }: Asked): Promise<void> {
    const named = poolIn(subject, "pool.delete");
    if ("refusal" in named) return respond(named.refusal);
    const read = readRequest(contract["pool.delete"].request, body);
    const answer = "refusal" in read ? read.refusal : await this.#leadership.delete(named.value, read.value);
    respond(withWarnings(answer, read.warnings));
  }

  async #list(asked: Asked): Promise<void> {
    const { respond } = asked;
    const who = whoSent(asked, this.#options.users);
    const isSeen = (pool: string): boolean => who.pools?.includes(pool) ?? true;
    const streams = this.#streams.troubles();
    try {
      const names = (await this.#leadership.openPools()).filter(isSeen);
      const looks = await Promise.all(names.sort().map((pool) => inTime(this.#describe(pool, who))));
      const pools = looks.filter((pool) => pool !== undefined);
      // Another picker may lead a pool that this one could not lead.
      const broken = this.#leadership.unusable().filter(({ pool }) => !pools.some((each) => each.pool === pool));
      const unusable = [...broken, ...this.#leadership.purged()].filter(({ pool }) => isSeen(pool));
      respond({ pools, ...(unusable.length > 0 && { unusable }), ...(streams.length > 0 && { streams }) });
    } catch {
      const why = streams.map(({ message }) => message).join(" ") || "the broker does not answer.";
      respond(refuse("unavailable", `The list of pools cannot be read: ${why}`, { retryAfterMs: 1000 }));
    }
  }

  async #describe(pool: string, who: Who): Promise<PoolReply | undefined> {
    const answer = await this.#leadership.ask(pool, { verb: "pool.get", body: {}, who }, { waitMs: 0 });
    return isRefusal(answer) ? undefined : (answer as PoolReply); // The reply of pool.get.
  }
}

/** Undefined if it takes too long: a leader in doubt must not keep the others from being listed. */
async function inTime<T>(asked: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, describeMsMax, undefined);
  });
  return Promise.race([asked, late]).finally(() => clearTimeout(timer));
}
