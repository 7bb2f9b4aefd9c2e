// The picker: leads pools, and answers for them on NATS. This is what is asked of any picker (`remuda.pool.*` and
// discovery); what only a pool's leader answers is subscribed where the pool is led.
import { randomBytes } from "node:crypto";
import type { Msg, Subscription } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { poolNameSchema } from "../../events/ids.ts";
import type { PoolReply } from "../../protocol/pool.ts";
import { isRefusal, refuse } from "../../protocol/refusal.ts";
import { leaderVerbs, type PoolVerb, poolListSubject, poolVerbs, requestSubject } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import type { Clock } from "../../runtime/clock.ts";
import { answerDiscovery } from "../../runtime/discovery.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import { FrontCounts, onRequest } from "./front.ts";
import { Leadership, openPool } from "./leadership.ts";
import { ensureStreams, ledgerSizes } from "./streams.ts";

export interface PickerOptions {
  /** Three connections, so that none can hold up another, each with the rights of its user alone. */
  buses: { ledger: Bus; front: Bus; follower: Bus };
  key: InstallationKey;
  /** Signs ledgers' heads. */
  signer: SigningKey;
  log: Logger;
  version: string;
  ledgerBytesMax: number;
  clock?: Clock;
}

type Respond = (answer: object) => void;

export class Picker {
  readonly id = `picker-${randomBytes(6).toString("hex")}`;
  readonly #options: PickerOptions;
  readonly #counts = new FrontCounts();
  readonly #leadership: Leadership;
  readonly #subscriptions: Subscription[] = [];

  constructor(options: PickerOptions) {
    this.#options = options;
    this.#leadership = new Leadership(this.id, options, this.#counts);
  }

  /**
   * Resolves when every pool that has a ledger is led, here or elsewhere. @param open pools to open where they are not.
   * @throws Fault where the set-up must be mended first.
   */
  async start(given: { open: readonly string[] }): Promise<void> {
    const { buses, ledgerBytesMax } = this.#options;
    await ensureStreams(buses, { ledgerBytesMax });
    await this.#leadership.start();
    this.#subscribe();
    await buses.front.nc.flush();
    for (const pool of given.open) await openPool(this.#leadership, pool);
  }

  stop(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    this.#leadership.stop();
  }

  #subscribe(): void {
    const { buses, version } = this.#options;
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
    this.#subscriptions.push(
      ...answerDiscovery(nc, {
        name: "remuda",
        id: this.id,
        version,
        description: "Leases forward proxies",
        startedAt: Date.now(),
        endpoints: () => this.#counts.endpoints([...leaderVerbs, ...poolVerbs]),
      }),
    );
  }

  async #poolRequest(verb: PoolVerb, message: Msg, body: unknown, respond: Respond): Promise<void> {
    const pool = message.subject.slice(requestSubject(verb, "").length);
    const named = poolNameSchema.safeParse(pool);
    if (!named.success) {
      const why = named.error.issues[0]?.message ?? "is no pool's name";
      return respond(refuse("invalid-request", `pool: ${why}.`, { field: "pool" }));
    }
    if (verb === "pool.open") return this.#leadership.open(pool, body, respond);
    const led = this.#leadership.led(pool);
    if (led !== undefined) led.requests.handle(verb, body, respond);
    else respond(await this.#leadership.ask(pool, { verb, body }));
  }

  async #list(respond: Respond): Promise<void> {
    try {
      const names = [...(await ledgerSizes(this.#options.buses.ledger)).keys()];
      const pools = await Promise.all(names.sort().map((pool) => this.#describe(pool)));
      respond({ pools: pools.filter((pool) => pool !== undefined) });
    } catch {
      respond(refuse("unavailable", "The list of pools cannot be read now.", { retryAfterMs: 1000 }));
    }
  }

  async #describe(pool: string): Promise<PoolReply | undefined> {
    const led = this.#leadership.led(pool);
    const answer =
      led === undefined
        ? await this.#leadership.ask(pool, { verb: "pool.get", body: {} })
        : await new Promise<object>((resolve) => led.requests.handle("pool.get", {}, resolve));
    return isRefusal(answer) ? undefined : (answer as PoolReply); // What pool.get answers.
  }
}
