// The executor of refreshes: it follows the ledgers of the pools that have a token source, takes each refresh that is
// requested from the pool's leader, makes its request, and tells the leader what came of it. It decides nothing and keeps
// nothing; any number may run, each refresh is given to one. Killed, it leaves a refresh behind that ends at its deadline.
import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import type { PoolReply } from "../../protocol/pool.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import { ledgerStream, ledgerSubject, poolListSubject, requestSubject } from "../../protocol/subjects.ts";
import type { TokenJob } from "../../protocol/token.ts";
import { type Bus, requestOn } from "../../runtime/bus.ts";
import { brokerNow } from "../../runtime/jetstream-api.ts";
import { tail } from "../../runtime/tail.ts";
import { Expressions } from "./expressions.ts";
import { fetchToken } from "./request.ts";

interface Requested {
  pool: string;
  tokenId: string;
  /** An instant of `performance.now()`: it is of no interest any more then. */
  until: number;
}

export interface ExecutorPorts {
  /** One with the rights to ask leaders, one to read ledgers. */
  buses: { requests: Bus; events: Bus };
  log: Logger;
}

/** How often it is looked which pools have a token source. */
const poolsEveryMs = 500;
const answerMs = 5000;
const againMs = 100;
/** Requests under way at the same time; further ones wait, and so many. */
const underWayMax = 256;
const queuedMax = 10_000;
/** So long after its deadline a refresh is of no interest any more. */
const lateMs = 5000;
const pauseMs = 200;
/** For what is under way when it is to stop. A process that ends has less than two seconds in all. */
const finishMs = 800;
const marked = Buffer.from('"TokenRequested"');

export class Executor {
  readonly id = `guest-token-${randomBytes(6).toString("hex")}`;
  readonly #ports: ExecutorPorts;
  /** Refreshes that were read, until their time is over: the ledger of a pool that was lost for a moment is read again. */
  readonly #known = new Map<string, number>();
  readonly #following = new Map<string, AbortController>();
  readonly #stopped = new AbortController();
  readonly #queue: Requested[] = [];
  readonly #expressions = new Expressions();
  readonly #underWay = new Set<Promise<void>>();
  #ends = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(ports: ExecutorPorts) {
    this.#ports = ports;
  }

  /** Resolves when it follows all pools that have a source by now. */
  async start(): Promise<void> {
    await this.#look();
    const again = (): void => {
      this.#timer = setTimeout(() => void this.#look().finally(again), poolsEveryMs);
    };
    if (!this.#ends) again();
  }

  /** Takes no refresh any more. What it has taken, and nobody else will do, may be finished for a moment. */
  async stop(): Promise<void> {
    this.#ends = true;
    clearTimeout(this.#timer);
    for (const following of this.#following.values()) following.abort();
    this.#queue.length = 0;
    const tooLate = new Promise((resolve) => setTimeout(resolve, finishMs).unref());
    await Promise.race([Promise.all(this.#underWay), tooLate]);
    this.#stopped.abort();
    this.#expressions.close();
  }

  async #look(): Promise<void> {
    const pools = await this.#pools();
    if (pools === undefined || this.#ends) return;
    for (const [pool, following] of this.#following) {
      if (pools.has(pool)) continue;
      following.abort();
      this.#following.delete(pool);
    }
    for (const [pool, deadlineMs] of pools) {
      if (this.#following.has(pool)) continue;
      const following = new AbortController();
      this.#following.set(pool, following);
      void this.#follow(pool, deadlineMs, following.signal).catch((error: unknown) =>
        this.#ports.log.error(
          { pool, err: error },
          "the ledger cannot be read; this pool's refreshes are left to others",
        ),
      );
    }
  }

  /** Those with a token source, and how long a refresh may take there. Undefined: nobody says. */
  async #pools(): Promise<Map<string, number> | undefined> {
    try {
      const reply = await requestOn(this.#ports.buses.requests, poolListSubject, "", { timeoutMs: answerMs });
      const answer = reply.json<{ pools: PoolReply[] }>();
      if (isRefusal(answer)) return undefined;
      const found = new Map<string, number>();
      for (const { pool, policy } of answer.pools) if (policy.token !== null) found.set(pool, policy.token.deadlineMs);
      return found;
    } catch {
      return undefined; // Nobody is there now. The next look will tell.
    }
  }

  async #follow(pool: string, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const onTrouble = (error: unknown): void =>
      this.#ports.log.warn({ pool, why: String(error) }, "the ledger cannot be followed; trying again");
    const now = await this.#brokerNow(signal);
    if (now === undefined) return;
    // From before any refresh that may still be under way: by time, since no sequence is known.
    const from = { seq: Number.MAX_SAFE_INTEGER, at: now - deadlineMs - lateMs };
    const subject = ledgerSubject(pool);
    for await (const { bytes } of tail({
      bus: this.#ports.buses.events,
      stream: ledgerStream,
      subject,
      from,
      signal,
      onTrouble,
    })) {
      // Most commits have none, and need not be read.
      if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(marked)) continue;
      const { at, events } = decodeCommit(Buffer.from(bytes).toString());
      for (const event of events as Event[]) {
        if (event.type !== "TokenRequested") continue;
        // How long it may take is all that counts here. The pool's time may be hours behind the broker's, where its leader
        // has slept; and whoever asks for one that is over hears that from the leader.
        const until = performance.now() + event.deadlineAt - at + lateMs;
        this.#enqueue({ pool, tokenId: event.tokenId, until });
      }
    }
  }

  /** The broker's clock: this machine's own may be wrong by hours. */
  async #brokerNow(signal: AbortSignal): Promise<number | undefined> {
    while (!signal.aborted) {
      try {
        return await brokerNow(this.#ports.buses.events, ledgerStream);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, pauseMs)); // It is away.
      }
    }
    return undefined;
  }

  #enqueue(request: Requested): void {
    const now = performance.now();
    for (const [tokenId, until] of this.#known) {
      if (until >= now) break; // They came in the order of their time.
      this.#known.delete(tokenId);
    }
    if (this.#known.has(request.tokenId)) return;
    this.#known.set(request.tokenId, request.until);
    if (this.#queue.length >= queuedMax) {
      const { pool, tokenId } = request;
      this.#ports.log.warn({ pool, tokenId }, "too many refreshes wait here; this one is left to others");
      return;
    }
    this.#queue.push(request);
    this.#begin();
  }

  #begin(): void {
    while (this.#underWay.size < underWayMax && !this.#ends) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      const work = this.#do(next)
        .catch((error: unknown) => this.#ports.log.error({ pool: next.pool, err: error }, "a refresh went wrong"))
        .finally(() => {
          this.#underWay.delete(work);
          this.#begin();
        });
      this.#underWay.add(work);
    }
  }

  async #do({ pool, tokenId, until }: Requested): Promise<void> {
    // The job's time counts from when it was asked for, by the clock of this process alone.
    const { answer, askedAt } = await this.#ask(pool, "token.take", { tokenId, executor: this.id }, until);
    const answeredAt = performance.now();
    const job = answer as Partial<TokenJob> | undefined; // What the leader answers.
    if (job?.leftMs === undefined) return;
    const whole = job as TokenJob; // With `leftMs` all of it is there.
    const endsAt = askedAt + whole.leftMs;
    // Of the time until the deadline, as the leader counts it, no more was left when the request was sent. So whoever takes
    // the result knows from when on the token lives, and how late it is brought makes no difference.
    const leftMs = Math.max(0, Math.ceil(whole.deadlineMs - (performance.now() - answeredAt)));
    const brought = await fetchToken(whole, endsAt, { expressions: this.#expressions });
    const { log } = this.#ports;
    const { outcome, why } = brought;
    if (why === undefined) log.debug({ pool, tokenId }, "a token has been fetched");
    else log.warn({ pool, tokenId, why, status: outcome?.status }, "a token could not be fetched");
    await this.#ask(pool, "token.result", { tokenId, leaseId: whole.leaseId, leftMs, ...brought }, endsAt + lateMs);
  }

  /** Again while nobody leads the pool. */
  async #ask(
    pool: string,
    verb: "token.take" | "token.result",
    body: object,
    until: number,
  ): Promise<{ answer: object | undefined; askedAt: number }> {
    const text = JSON.stringify(body);
    for (;;) {
      const askedAt = performance.now();
      try {
        const reply = await requestOn(this.#ports.buses.requests, requestSubject(verb, pool), text, {
          timeoutMs: 2000,
        });
        const answer = reply.json<object>();
        if (!isRefusal(answer)) return { answer, askedAt };
        if (answer.retryAfterMs === undefined) return { answer: undefined, askedAt };
      } catch {
        // No leader, no broker, no answer: the same may be asked twice.
      }
      const isOver = this.#stopped.signal.aborted || (this.#ends && verb === "token.take");
      if (performance.now() >= until || isOver) return { answer: undefined, askedAt };
      await new Promise((resolve) => setTimeout(resolve, againMs));
    }
  }
}
