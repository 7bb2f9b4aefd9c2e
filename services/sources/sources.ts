// The sources service. It follows every source of the file, watches the file, and answers requests about the sources.
// It holds no state that matters: a pool's ledger has the pool's proxies, and a file in the service's folder remembers
// the proxies that a source has named. If several processes share a folder, only one of them is active. When it ends,
// for any reason, another one takes over.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Subscription } from "@nats-io/transport-node";
import type { Logger } from "pino";
import { withWarnings } from "../../protocol/fields.ts";
import { overNats, poolIn, senderIn } from "../../protocol/over-nats.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readRequest } from "../../protocol/request.ts";
import { type Source, sourceNameRequestSchema, sourceRequestSchema } from "../../protocol/source.ts";
import { requestSubject } from "../../protocol/subjects.ts";
import { type SourceVerb, verbsBy } from "../../protocol/verbs.ts";
import type { Bus } from "../../runtime/bus.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Defects } from "../../runtime/defects.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";
import { releaseLock, takeLock } from "../../runtime/lock.ts";
import { type Asked, Responder } from "../../runtime/responder.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { NotAllowed, type Outbound } from "../../transport/outbound.ts";
import { beyondBounds } from "./bounds.ts";
import { circleIn, keyOf, SourcesFile } from "./config.ts";
import type { Follower } from "./follower.ts";
import type { PoolPort } from "./pool.ts";
import { Refill } from "./refill.ts";
import { Room } from "./room.ts";
import { forgetSeen, Seen } from "./seen.ts";

export interface SourcesPorts {
  /** Answers requests. */
  front: Bus;
  pools: PoolPort;
  clock: Clock;
  log: Logger;
  /** The pools of a user that sends requests. Undefined: all. Absent: the NATS server has no users. */
  poolsOf?: ((user: string) => readonly string[] | undefined) | undefined;
  /** Absent: bugs are logged, and counted nowhere. */
  defects?: Defects | undefined;
  /** Where requests for lists and probes may go. */
  outbound: Outbound;
  file: string;
  /** The folder with a file for each source: the proxies that it has named. */
  folder: string;
}

/** How often the file and the pools' floors are checked. */
const lookMs = 2000;
/** A process that was just killed may hold its place for another moment. */
const placeWaitSeconds = 2;

export class Sources {
  readonly #ports: SourcesPorts;
  readonly #file: SourcesFile;
  readonly #refill: Refill;
  readonly #followers = new Map<string, Follower>();
  #subscriptions: Subscription[] = [];
  readonly #defects: Defects;
  readonly #restarts: Restarts;
  readonly #room = new Room();
  #cancel = () => {};
  #stopped = false;
  #hasPlace = false;
  /** Releases the place to the next process. */
  #leave = async () => {};
  /** Pending while this process takes its place and begins. */
  #taking: Promise<void> = Promise.resolve();
  /** Changes of the file, one after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(ports: SourcesPorts) {
    this.#ports = ports;
    this.#file = new SourcesFile(ports.file);
    this.#defects = ports.defects ?? new Defects(ports.log);
    this.#restarts = new Restarts(ports.clock);
    const onTrouble = (source: string, why: string) => ports.log.warn({ source }, why);
    const onDefect = (pool: string, bug: unknown) => this.#defects.note("refill", bug, { pool });
    this.#refill = new Refill({ ...ports, onTrouble, onDefect });
  }

  /**
   * @param given.mayBeWrong If true, a wrong file is reported, and followed when it is fixed. For a caller that has
   * other services to start.
   * @throws Fault "fix-setup" if the file is wrong and `mayBeWrong` is not set: then an operator is there to fix it.
   */
  async start(given: { mayBeWrong?: boolean } = {}): Promise<void> {
    const starting = this.#start(given);
    this.#taking = starting.catch(() => {}); // Told to the caller.
    await starting;
  }

  async #start(given: { mayBeWrong?: boolean }): Promise<void> {
    this.#hasPlace = await this.#takePlace(placeWaitSeconds);
    if (this.#stopped) return;
    if (this.#hasPlace) return this.#begin(given);
    this.#ports.log.warn(
      "another process follows the sources of this data directory; this one takes over when that one ends",
    );
    this.#waitForPlace();
  }

  async #begin({ mayBeWrong = false }: { mayBeWrong?: boolean }): Promise<void> {
    if (mayBeWrong) await this.#reload();
    else await this.#follow(this.#file.read());
    if (this.#stopped) return;
    for (const each of this.#subscriptions) each.unsubscribe();
    const { front, log } = this.#ports;
    const { nc } = front;
    const responder = new Responder(nc, overNats, log);
    this.#subscriptions = verbsBy("sources").map((verb) =>
      responder.serve({ name: verb, subject: requestSubject(verb, "*") }, (asked) => this.#answer(verb, asked)),
    );
    await nc.flush();
    if (!this.#stopped) this.#plan();
  }

  #waitForPlace(pauseMs = lookMs): void {
    this.#cancel = this.#ports.clock.after(pauseMs, () => {
      this.#taking = this.#takeOver().catch((error: unknown) => {
        if (error instanceof Fault) this.#ports.log.error(`${error.message}; the sources are not followed yet`);
        else this.#defects.note("source", error);
        if (!this.#stopped) this.#waitForPlace(this.#restarts.pauseMs());
      });
    });
  }

  async #takeOver(): Promise<void> {
    this.#hasPlace ||= await this.#takePlace(0);
    if (this.#stopped) return;
    if (this.#hasPlace) await this.#begin({ mayBeWrong: true });
    else this.#waitForPlace();
  }

  /** Without a lock there is no other process to wait for. */
  async #takePlace(waitSeconds: number): Promise<boolean> {
    const { folder, log } = this.#ports;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const holder = await takeLock(join(folder, ".lock"), { waitSeconds });
      if (holder === undefined) return false;
      this.#leave = () => releaseLock(holder);
    } catch (error) {
      const why = error instanceof Fault ? error.message : `${folder} cannot be made (${codeOf(error)})`;
      log.warn(`${why}; another process may follow the same sources`);
    }
    return true;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#taking;
    for (const each of this.#subscriptions) each.unsubscribe();
    await this.#changing;
    this.#refill.stop();
    await Promise.all([...this.#followers.values()].map((follower) => follower.stop()));
    await this.#leave();
  }

  #plan(): void {
    this.#cancel = this.#ports.clock.after(lookMs, () => {
      void this.#look()
        .catch((bug: unknown) => this.#defects.note("source", bug))
        .finally(() => {
          if (!this.#stopped) this.#plan();
        });
    });
  }

  async #look(): Promise<void> {
    if (this.#file.isChanged()) await this.#inTurn(() => this.#reload());
    await this.#refill.look([...this.#followers.values()]);
  }

  async #reload(): Promise<void> {
    try {
      await this.#follow(this.#file.read());
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#ports.log.error(`${error.message}; the sources stay as they were`);
    }
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(change, change);
    this.#changing = done.catch(() => {});
    return done;
  }

  /** Unchanged sources go on undisturbed. */
  async #follow(sources: readonly Source[]): Promise<void> {
    const wanted = new Map(sources.map((source) => [keyOf(source), source]));
    for (const [key, follower] of this.#followers) {
      if (JSON.stringify(wanted.get(key)) === JSON.stringify(follower.source)) continue;
      await follower.stop();
      this.#followers.delete(key);
    }
    const begun: Follower[] = [];
    for (const [key, source] of wanted) {
      if (this.#followers.has(key) || this.#stopped) continue;
      const follower = await this.#followerOf(source);
      this.#followers.set(key, follower);
      begun.push(follower);
    }
    // Followers start only when the proxies that each source has named are known. Otherwise one source would retire
    // proxies that another still names.
    for (const follower of begun) if (!this.#stopped) follower.start();
  }

  async #followerOf(source: Source): Promise<Follower> {
    const { pools, clock, log, folder, outbound } = this.#ports;
    const pause = () => new Promise<void>((resolve) => clock.soon(resolve));
    const seen = await Seen.open(join(folder, source.pool), source.name, pause);
    const { Follower } = await import("./follower.ts"); // A service without sources needs none of its modules.
    return new Follower(source, {
      ...{ pools, clock, seen, pause, outbound, share: this.#room.share(source.pool) },
      namedElsewhere: (id) => this.#isNamedBesides(source, id),
      onTrouble: (why) => log.warn({ pool: source.pool, source: source.name }, why),
      onDefect: (part, bug) => this.#defects.note(part, bug, { pool: source.pool, source: source.name }),
    });
  }

  #isNamedBesides({ pool, name }: Source, id: string): boolean {
    for (const { source, names } of this.#followers.values()) {
      if (source.pool === pool && source.name !== name && names(id)) return true;
    }
    return false;
  }

  async #answer(verb: SourceVerb, asked: Asked): Promise<void> {
    const pool = poolIn(asked.subject, verb);
    asked.respond("refusal" in pool ? pool.refusal : await this.#do(verb, pool.value, asked));
  }

  async #do(verb: SourceVerb, pool: string, { body, ...asked }: Asked): Promise<object | Refusal> {
    if (verb === "sources.list") {
      const followers = [...this.#followers.values()].filter(({ source }) => source.pool === pool);
      return { sources: followers.map((follower) => follower.view()) };
    }
    if (verb === "sources.put") {
      const read = readRequest(sourceRequestSchema, body);
      if ("refusal" in read) return read.refusal;
      const { from } = read.value;
      const foreign = from.kind === "pool" ? this.#foreign(from.pool, senderIn(asked)) : undefined;
      if (foreign !== undefined) return foreign;
      return withWarnings(await this.#change(() => this.#put({ ...read.value, pool })), read.warnings);
    }
    const read = readRequest(sourceNameRequestSchema, body);
    if ("refusal" in read) return read.refusal;
    const { name } = read.value;
    if (verb === "sources.remove")
      return withWarnings(await this.#change(() => this.#remove({ pool, name })), read.warnings);
    const follower = this.#followers.get(keyOf({ pool, name }));
    if (follower === undefined) return noSource(pool, name);
    await follower.lookNow({ whole: true });
    return withWarnings(follower.view(), read.warnings);
  }

  /** A pool's proxies are copied with their logins, so the sender must be an administrator of that pool as well. */
  #foreign(pool: string, user: string): Refusal | undefined {
    const pools = this.#ports.poolsOf?.(user);
    if (pools === undefined || pools.includes(pool)) return undefined;
    const message = `from.pool: ${user} is not an administrator of ${pool}. Name another pool.`;
    return refuse("invalid-request", message, { field: "from.pool" });
  }

  /**
   * The change is applied to the file's current content. An operator's recent edit of the file is not lost, even if
   * the file cannot be read.
   */
  #change(change: () => Promise<object | Refusal>): Promise<object | Refusal> {
    return this.#inTurn(async () => {
      try {
        await this.#follow(this.#file.read());
        return await change();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        return refuse("unavailable", error.message, { retryAfterMs: lookMs });
      }
    });
  }

  /** All sources but the given one. */
  #besides(source: Pick<Source, "pool" | "name">): Source[] {
    return [...this.#followers.values()].map((each) => each.source).filter((each) => keyOf(each) !== keyOf(source));
  }

  /** The file is written first, so that an answered change outlives this process. */
  async #put(source: Source): Promise<object | Refusal> {
    const { from, probe, refill } = source;
    const present = this.#followers.get(keyOf(source))?.source;
    if (present !== undefined && !isByRequest(present)) return notByRequest(source.name);
    const others = this.#besides(source);
    const beyond = beyondBounds(source, others, present === undefined);
    if (beyond !== undefined) return beyond;
    const all = [...others, source];
    const circle = circleIn(all);
    if (circle !== undefined) return refuse("invalid-request", `from.pool: ${circle}.`, { field: "from.pool" });
    const outside = { "from.url": from.kind === "url" ? from.url : undefined, "probe.url": probe?.url };
    for (const [field, url] of Object.entries({ ...outside, "refill.webhook": refill?.webhook })) {
      const host = url === undefined ? undefined : new URL(url).hostname;
      if (host === undefined || this.#ports.outbound.allowsTarget(host)) continue;
      return refuse("invalid-request", `${field}: ${new NotAllowed(host).message}`, { field });
    }
    this.#file.write(all);
    await this.#follow(all);
    return this.#followers.get(keyOf(source))?.view() ?? {};
  }

  /** The proxies that the source has added stay. */
  async #remove({ pool, name }: Pick<Source, "pool" | "name">): Promise<object | Refusal> {
    const source = this.#followers.get(keyOf({ pool, name }))?.source;
    if (source === undefined) return noSource(pool, name);
    if (!isByRequest(source)) return notByRequest(name);
    const others = this.#besides(source);
    this.#file.write(others);
    await this.#follow(others);
    await forgetSeen(join(this.#ports.folder, source.pool), source.name);
    return { removed: source.name };
  }
}

function isByRequest({ from: { kind } }: Source): boolean {
  return kind === "url" || kind === "pool";
}

function notByRequest(name: string): Refusal {
  return refuse("invalid-request", `name: ${name} is defined in the sources file. Change it there.`, { field: "name" });
}

function noSource(pool: string, name: string): Refusal {
  return refuse("invalid-request", `name: the pool ${pool} has no source ${name}.`, { field: "name" });
}
