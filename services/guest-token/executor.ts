// The executor of token refreshes. It follows the ledgers of the pools that have a token source, and runs an actor for
// each refresh that is requested there (refresh.ts). It decides nothing and keeps nothing. Any number of executors may
// run: each refresh is given to one. A refresh that a killed executor leaves behind ends at its deadline.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { type ActorRefFrom, createActor, toPromise } from "xstate";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import type { PoolReply } from "../../protocol/pool.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import { ledgerStream, ledgerSubject, poolListSubject } from "../../protocol/subjects.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Defects } from "../../runtime/defects.ts";
import { resultOr } from "../../runtime/fault.ts";
import { brokerNow, streamInfo } from "../../runtime/jetstream-api.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { StreamNews } from "../../runtime/stream-news.ts";
import { type Place, tail } from "../../runtime/tail.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { Expressions } from "./expressions.ts";
import { Places } from "./places.ts";
import { lateMs, type RefreshInput, refreshMachine } from "./refresh.ts";

type Requested = Omit<RefreshInput, "ports">;

export interface ExecutorPorts {
  /** One connection may call leaders, the other may read ledgers. */
  buses: { requests: Bus; events: Bus };
  log: Logger;
  /** Absent: bugs are logged, and counted nowhere. */
  defects?: Defects | undefined;
  /** Where requests for tokens may go. */
  outbound: Outbound;
}

/** How often to look which pools have a token source. */
const poolsEveryMs = 500;
/** How long the pools are looked at after the last commit in any ledger. */
const changingMs = 10_000;
/** Listing thousands of pools takes a while, so the next look comes later. */
const pausesPerLook = 20;
const answerMs = 5000;
const pauseMs = 200;
/** Time for the refreshes under way when the executor is to stop. A process ends within five seconds. */
const finishMs = 800;
const marked = Buffer.from('"TokenRequested"');

export class Executor {
  readonly id = `guest-token-${randomBytes(6).toString("hex")}`;
  readonly #ports: ExecutorPorts;
  readonly #defects: Defects;
  /** How far each ledger has been read. So a pool that is missing from the list for a moment is not read again. */
  readonly #readTo = new Map<string, Place>();
  readonly #following = new Map<string, AbortController>();
  readonly #ending = new AbortController();
  readonly #places = new Places<Requested>();
  readonly #expressions = new Expressions();
  readonly #underWay = new Set<ActorRefFrom<typeof refreshMachine>>();

  readonly #news: StreamNews;
  /** Of all ledgers, at the last look, and when it changed. */
  #lastSeq: number | undefined;
  #changedOn = 0;
  #pauseMs = poolsEveryMs;

  constructor(ports: ExecutorPorts) {
    this.#ports = ports;
    this.#defects = ports.defects ?? new Defects(ports.log);
    this.#news = new StreamNews(ports.buses.events, ledgerStream);
  }

  /** Resolves when it follows all pools that have a source at that time. */
  async start(): Promise<void> {
    await this.#look();
    void this.#lookAgain();
  }

  /**
   * Takes no further refresh. A refresh that it has taken may finish within a moment, because no other executor will do
   * it.
   */
  async stop(): Promise<void> {
    this.#ending.abort();
    for (const following of this.#following.values()) following.abort();
    this.#places.clear();
    const finished = Promise.allSettled([...this.#underWay].map((refresh) => toPromise(refresh)));
    await Promise.race([finished, pause(finishMs, undefined, { ref: false })]);
    for (const refresh of this.#underWay) refresh.stop();
    this.#expressions.close();
  }

  async #lookAgain(): Promise<void> {
    const { signal } = this.#ending;
    for (;;) {
      await pause(this.#pauseMs, undefined, { signal }).catch(() => {}); // It is stopping.
      if (signal.aborted) return;
      await this.#look().catch((error: unknown) => this.#defects.note("executor", error));
    }
  }

  async #look(): Promise<void> {
    const { buses } = this.#ports;
    // Policies change only with commits. A new leader may be listed a moment after its claim.
    const info = await streamInfo(buses.events, ledgerStream).catch(() => undefined);
    const lookedOn = performance.now();
    if (info?.state.last_seq !== this.#lastSeq) this.#changedOn = lookedOn;
    else if (lookedOn - this.#changedOn > changingMs) return;
    this.#lastSeq = info?.state.last_seq;
    const pools = await this.#pools();
    this.#pauseMs = Math.max(poolsEveryMs, (performance.now() - lookedOn) * pausesPerLook);
    if (pools === undefined || this.#ending.signal.aborted) return;
    for (const [pool, following] of this.#following) {
      if (pools.has(pool)) continue;
      following.abort();
      this.#following.delete(pool);
    }
    for (const [pool, deadlineMs] of pools) {
      if (this.#following.has(pool)) continue;
      const following = new AbortController();
      this.#following.set(pool, following);
      void this.#keepFollowing(pool, deadlineMs, following.signal);
    }
  }

  /** Pools with a token source, and how long a refresh may take there. Undefined if there was no answer. */
  async #pools(): Promise<Map<string, number> | undefined> {
    try {
      const reply = await requestOn(this.#ports.buses.requests, poolListSubject, "", { timeoutMs: answerMs });
      const answer = reply.json<{ pools: PoolReply[] }>();
      if (isRefusal(answer)) return undefined;
      const found = new Map<string, number>();
      for (const { pool, policy } of answer.pools) if (policy.token !== null) found.set(pool, policy.token.deadlineMs);
      return found;
    } catch {
      return undefined; // No picker answers now. The next look will tell.
    }
  }

  /** A pool whose reading fails is followed again, after the last commit that was read. */
  async #keepFollowing(pool: string, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const restarts = new Restarts(systemClock);
    for (;;) {
      try {
        return await this.#follow(pool, deadlineMs, signal);
      } catch (error) {
        this.#defects.note("executor", error, { pool });
        await pause(restarts.pauseMs(), undefined, { signal }).catch(() => {}); // It is followed no more.
      }
    }
  }

  async #follow(pool: string, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const { log, buses } = this.#ports;
    const onTrouble = (error: unknown): void =>
      log.warn({ pool, why: String(error) }, "the ledger cannot be followed; trying again");
    const from = this.#readTo.get(pool) ?? (await this.#placeBefore(deadlineMs + lateMs, signal));
    const ledger = { bus: buses.events, stream: ledgerStream, subject: ledgerSubject(pool) };
    for await (const { seq, storedAt, bytes } of tail({ ...ledger, from, news: this.#news, signal, onTrouble })) {
      if (signal.aborted) return;
      this.#readTo.set(pool, { seq, at: storedAt });
      // Most commits have none, and need not be read.
      if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(marked)) continue;
      const commit = resultOr(() => decodeCommit(Buffer.from(bytes).toString()), undefined);
      if (commit === undefined) {
        log.error(
          { pool, sequence: seq },
          "a commit cannot be read, and is skipped; its refreshes end at their deadlines",
        );
        continue;
      }
      const { at, events } = commit;
      for (const event of events as Event[]) {
        if (event.type !== "TokenRequested") continue;
        // Only the allowed duration counts here. The pool's time may be hours behind the broker's if its leader has
        // slept. If an executor requests a refresh that is over, the leader says so.
        const until = performance.now() + event.deadlineAt - at + lateMs;
        this.#enqueue({ pool, tokenId: event.tokenId, until });
      }
    }
  }

  /**
   * The place this long ago by the broker's clock, because this machine's clock may be wrong by hours. Found by time,
   * since no sequence is known.
   */
  async #placeBefore(ms: number, signal: AbortSignal): Promise<Place> {
    while (!signal.aborted) {
      try {
        return { seq: Number.MAX_SAFE_INTEGER, at: (await brokerNow(this.#ports.buses.events, ledgerStream)) - ms };
      } catch {
        await pause(pauseMs); // The broker is away.
      }
    }
    return { seq: 0, at: 0 }; // It is not used.
  }

  #enqueue(refresh: Requested): void {
    if (this.#places.add(refresh)) return this.#begin();
    const { pool, tokenId } = refresh;
    this.#ports.log.warn({ pool, tokenId }, "too many refreshes wait here; another executor may take this one");
  }

  #begin(): void {
    while (!this.#ending.signal.aborted) {
      const { log, buses, outbound } = this.#ports;
      const next = this.#places.next();
      if (next === undefined) return;
      const { signal: ending } = this.#ending;
      const shared = {
        executor: this.id,
        requests: buses.requests,
        expressions: this.#expressions,
        outbound,
        log,
        defects: this.#defects,
        ending,
      };
      const refresh = createActor(refreshMachine, { input: { ...next, ports: shared } });
      const ended = (): void => {
        this.#underWay.delete(refresh);
        this.#places.end(next);
        this.#begin();
      };
      refresh.subscribe({
        complete: ended,
        error: (error) => {
          const { pool, tokenId } = next;
          this.#defects.note("refresh", error, { pool, tokenId });
          ended();
        },
      });
      this.#underWay.add(refresh);
      refresh.start();
    }
  }
}
