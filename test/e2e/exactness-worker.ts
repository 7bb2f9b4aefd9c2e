// Workers, several to a process. Each leases, makes its request to the target from the exit's address, and reports, or
// does not. They keep their part of the promise. By their own clock, they send nothing later than `leftMs` after they
// sent the lease request. No request travels longer than `transitMsMax`. Otherwise they behave as badly as they may.
//
// Started by exactness-run.ts, with the orders as JSON in the first argument. Prints "ready", works until it receives
// "stop", works well after "oblige", and answers with everything it has seen. Times are CLOCK_MONOTONIC milliseconds,
// which all processes of a machine share.

import { randomUUID } from "node:crypto";
import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { tellParent } from "../../demo/parent.ts";
import type { LeaseReply } from "../../protocol/lease.ts";
import { connectRaw, type RawMessage, type RawNats, RawNatsError } from "../kit/raw-nats.ts";
import { type Seeded, seeded } from "../kit/seed.ts";

/** A request that travels longer counts as lost: a stalled machine must not break the promise in the workers' name. */
export const transitMsMax = 400;
const lateMsMax = 300;
const promptMsMax = 40;
const retryMs = 40;
const watchMs = 100;
const reportWithinMs = 8_000;
const answerMsMax = 2_000;

/** The ways in which a worker behaves with its lease, and how often of a hundred times. */
const conducts = {
  /** Publishes the outcome to the stream. */
  publish: 48,
  /** Sends it as a request. */
  request: 12,
  /** Publishes it twice, without a Msg-Id, or sends it by both ways. */
  twice: 8,
  /** Reports when the lease may be long over. */
  late: 8,
  /** Reports nothing. */
  never: 7,
  /** Dies with the request under way. Its connection closes too. */
  crash: 4,
  /** Reports a timeout while the request is still on its way to the target. */
  "give up": 6,
  /** Releases instead of reporting. */
  release: 4,
  /** Releases without making a request. */
  return: 3,
};
export type Conduct = keyof typeof conducts;

export interface Orders {
  natsUrl: string;
  pool: string;
  targetPort: number;
  seed: number;
  /** Through these exits every worker is sluggish in every second span of this length, from `startedAt` on. */
  sluggish: { exits: readonly string[]; spanMs: number; startedAt: number };
  /** The numbers of the workers in this process. */
  workers: readonly number[];
}

/** One lease from its worker's view. */
export interface Held {
  worker: number;
  lease: Omit<LeaseReply, "url">;
  requestId: string;
  exit: string;
  conduct: Conduct;
  gotAt: number;
  /** Nothing was sent after this instant. */
  deadline: number;
  /** When the request's first byte was written, and when the target had answered. */
  wroteAt?: number;
  answeredAt?: number;
  /** When it first began to report or release. */
  endedAt?: number;
  /** The reports that were acknowledged. */
  acked: ("stream" | "report" | "release")[];
}

export interface Seen {
  held: Held[];
  /** The longest time between two answers to the one client that only asks repeatedly. 0 in the other processes. */
  outageMs: number;
  refused: Record<string, number>;
  /** Leases that were over when their answer arrived or their turn to send came. */
  tooLate: number;
  /** Requests that the machine was too slow to deliver in time, or at all. */
  lost: number;
  trouble: string[];
}

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

class Worker {
  readonly seen: Seen = { held: [], outageMs: 0, refused: {}, tooLate: 0, lost: 0, trouble: [] };
  readonly #orders: Orders;
  readonly #number: number;
  readonly #random: Seeded;
  readonly #behind = new Set<Promise<void>>();
  #connection: RawNats | undefined;
  #dialling: Promise<RawNats> | undefined;
  #answeredAt: number | undefined;
  #stopping = false;
  #obliging = false;

  constructor(orders: Orders, number: number) {
    this.#orders = orders;
    this.#number = number;
    this.#random = seeded(orders.seed * 1000 + number);
  }

  async run(): Promise<void> {
    while (!this.#stopping) {
      const held = await this.#lease();
      if (held !== undefined) await this.#use(held);
    }
    await Promise.all(this.#behind);
    await this.#connection?.close();
  }

  /** Asks the leader repeatedly, for nothing but an answer: a lease request may wait for other reasons. */
  async watch(): Promise<void> {
    while (!this.#stopping) {
      const answer = await this.#ask(`remuda.pool.stats.${this.#orders.pool}`, "", 500);
      if (answer !== undefined && answer.json<{ code?: string }>().code === undefined) this.#alive();
      await sleep(watchMs);
    }
    await this.#connection?.close();
  }

  #alive(): void {
    const now = monotonicMs();
    this.seen.outageMs = Math.max(this.seen.outageMs, now - (this.#answeredAt ?? now));
    this.#answeredAt = now;
  }

  /** From now on it uses every lease at once, and reports it. */
  oblige(): void {
    this.#obliging = true;
  }

  /** It finishes its requests under way. A waiting lease request is given up. */
  stop(): void {
    this.#stopping = true;
    void this.#connection?.close();
  }

  /** Repeats the same request until it is answered. A grant whose answer was lost is then answered again. */
  async #lease(): Promise<Held | undefined> {
    const requestId = randomUUID();
    const waitMs = this.#random.pick([0, 1_000, 5_000, 5_000]);
    const body = JSON.stringify({ requestId, waitMs, holder: `worker-${this.#number}` });
    while (!this.#stopping) {
      const askedAt = monotonicMs();
      const answer = await this.#ask(`remuda.lease.${this.#orders.pool}`, body, waitMs + answerMsMax);
      const gotAt = monotonicMs();
      const reply = answer?.json<LeaseReply & { code?: string; retryAfterMs?: number }>();
      if (reply === undefined || reply.code === "unavailable") {
        await sleep(retryMs);
        continue;
      }
      if (reply.code !== undefined) {
        this.seen.refused[reply.code] = (this.seen.refused[reply.code] ?? 0) + 1;
        if (reply.code !== "pool-exhausted") this.seen.trouble.push(answer?.body ?? "");
        await sleep(Math.min(reply.retryAfterMs ?? 0, 300));
        return undefined;
      }
      const { url, ...lease } = reply;
      const exit = lease.labels["exit"] ?? lease.host;
      const held: Held = {
        worker: this.#number,
        lease,
        requestId,
        exit,
        // Most sluggish workers are silent too: then only the lease's end determines their slots.
        conduct: this.#isSluggish(exit) && this.#random.chance(0.8) ? "never" : this.#conduct(),
        gotAt,
        deadline: askedAt + lease.leftMs,
        acked: [],
      };
      this.seen.held.push(held);
      return held;
    }
    return undefined;
  }

  async #use(held: Held): Promise<void> {
    const random = this.#random;
    const { conduct, deadline } = held;
    if (conduct === "return") return this.#release(held, 0);
    const sluggish = this.#isSluggish(held.exit);
    // Most are quick, some are slow, and some send at the last permitted moment.
    const lastMoment = sluggish || (!this.#obliging && random.chance(0.05));
    const thinkMs = lastMoment
      ? deadline - monotonicMs() - random.int(1, 40)
      : random.int(0, random.pick([30, 30, 250]));
    await sleep(Math.max(0, thinkMs));
    const sentAt = monotonicMs();
    if (sentAt > deadline) {
      this.seen.tooLate += 1;
      return this.#release(held, 0);
    }
    // One in ten travels late, and the sluggish ones as late as possible.
    const transitMs =
      !this.#obliging && random.chance(0.1) ? random.int(promptMsMax, lateMsMax) : random.int(0, promptMsMax);
    const arrival = this.#send(held, sentAt, sluggish ? lateMsMax : transitMs);
    if (conduct === "crash") {
      this.#leave(arrival);
      const connection = this.#connection;
      this.#connection = undefined;
      await connection?.close();
      return;
    }
    if (conduct === "give up") {
      this.#leave(arrival);
      return this.#publish(held, { reason: "timeout" }, { marked: true });
    }
    await arrival;
    // A request that the machine lost never reaches the target. Its worker can only report a timeout.
    const result =
      held.answeredAt === undefined ? { reason: "timeout" } : { status: random.pick([200, 200, 200, 503]) };
    if (conduct === "publish") await this.#publish(held, result, { marked: true });
    if (conduct === "request") await this.#report(held, result);
    if (conduct === "release") await this.#release(held, 1);
    if (conduct === "twice") {
      await this.#publish(held, result, { marked: random.chance(0.5) });
      await (random.chance(0.5) ? this.#report(held, result) : this.#publish(held, result, { marked: false }));
    }
    if (conduct === "late") {
      const waitMs = random.int(200, 1_500);
      this.#leave(sleep(waitMs).then(() => this.#publish(held, result, { marked: true })));
    }
  }

  /** Settles when the target has answered, or the request is lost. */
  async #send(held: Held, sentAt: number, transitMs: number): Promise<void> {
    await sleep(transitMs);
    if (monotonicMs() > sentAt + transitMsMax) {
      this.seen.lost += 1;
      return;
    }
    held.wroteAt = monotonicMs();
    try {
      await visit(held.exit, this.#orders.targetPort);
      held.answeredAt = monotonicMs();
    } catch (error) {
      this.seen.lost += 1;
      this.seen.trouble.push(`from ${held.exit}: ${error}`);
    }
  }

  async #publish(held: Held, result: object, { marked }: { marked: boolean }): Promise<void> {
    const { leaseId } = held.lease;
    const headers = marked ? { "Nats-Msg-Id": `${leaseId}:1` } : undefined;
    const subject = `remuda.outcome.${this.#orders.pool}`;
    const answer = await this.#insist(held, subject, { leaseId, ...result }, headers);
    if (answer?.json<{ seq?: number }>().seq !== undefined) held.acked.push("stream");
  }

  async #report(held: Held, result: object): Promise<void> {
    const outcomes = [{ leaseId: held.lease.leaseId, n: 1, ...result }];
    const answer = await this.#insist(held, `remuda.report.${this.#orders.pool}`, { outcomes });
    if (answer !== undefined) held.acked.push("report");
  }

  async #release(held: Held, used: number): Promise<void> {
    const { leaseId } = held.lease;
    const answer = await this.#insist(held, `remuda.release.${this.#orders.pool}`, { leaseId, used });
    if (answer !== undefined) held.acked.push("release");
  }

  /** Repeats until it is acknowledged, within reason. */
  async #insist(held: Held, subject: string, body: object, headers?: Record<string, string>) {
    held.endedAt ??= monotonicMs();
    const until = monotonicMs() + reportWithinMs;
    do {
      const answer = await this.#ask(subject, JSON.stringify(body), answerMsMax, headers);
      if (answer !== undefined && answer.json<{ code?: string; error?: unknown }>().error === undefined) {
        const { code } = answer.json<{ code?: string }>();
        if (code === undefined) return answer;
        if (code !== "unavailable") {
          this.seen.trouble.push(`${subject} ${JSON.stringify(body)}: ${answer.body}`);
          return undefined;
        }
      }
      await sleep(retryMs);
    } while (monotonicMs() < until);
    return undefined;
  }

  /** Undefined if there was no answer. */
  async #ask(subject: string, body: string, timeoutMs: number, headers?: Record<string, string>) {
    let answer: RawMessage | undefined;
    try {
      const connection = await this.#connected();
      answer = await connection.request(subject, body, { timeoutMs, ...(headers && { headers }) });
    } catch (error) {
      if (!(error instanceof RawNatsError) && !isConnectionError(error)) throw error;
      if (error instanceof RawNatsError && error.code === "timeout") this.seen.trouble.push(error.message);
      else this.#connection = undefined;
    }
    return answer?.status === 503 ? undefined : answer;
  }

  async #connected(): Promise<RawNats> {
    if (this.#connection !== undefined) return this.#connection;
    this.#dialling ??= connectRaw(this.#orders.natsUrl, { timeoutMs: answerMsMax }).finally(() => {
      this.#dialling = undefined;
    });
    this.#connection = await this.#dialling;
    return this.#connection;
  }

  #leave(work: Promise<void>): void {
    const kept = work.finally(() => this.#behind.delete(kept));
    this.#behind.add(kept);
  }

  /**
   * The worst that a target can see: a window full of requests that come as late as they may, and the next one full of
   * prompt ones.
   */
  #isSluggish(exit: string): boolean {
    if (this.#obliging) return false;
    const { exits, spanMs, startedAt } = this.#orders.sluggish;
    return exits.includes(exit) && Math.floor((monotonicMs() - startedAt) / spanMs) % 2 === 0;
  }

  #conduct(): Conduct {
    if (this.#obliging) return "publish";
    let left = this.#random.int(0, 99);
    for (const [conduct, share] of Object.entries(conducts)) {
      left -= share;
      if (left < 0) return conduct as Conduct; // One of its keys.
    }
    return "publish";
  }
}

/** One connection for each request: the target could close a kept connection at that very moment. */
function visit(exit: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, localAddress: exit, agent: false }, (response) => {
      response.resume().on("end", resolve).on("error", reject);
    }).on("error", reject);
  });
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("E");
}

async function main(orders: Orders): Promise<void> {
  const workers = orders.workers.map((number) => new Worker(orders, number));
  const watcher = new Worker(orders, 0);
  process.on("message", (order) => {
    for (const each of [...workers, watcher]) {
      if (order === "oblige") each.oblige();
      else each.stop();
    }
  });
  process.on("disconnect", () => process.exit());
  tellParent("ready");
  const watching = orders.workers.includes(0) ? [watcher.watch()] : []; // One asks, not one in each process.
  await Promise.all([...workers.map((worker) => worker.run()), ...watching]);
  const all = workers.map(({ seen }) => seen);
  const seen: Seen = {
    held: all.flatMap(({ held }) => held),
    outageMs: watcher.seen.outageMs,
    refused: {},
    tooLate: sum(all.map(({ tooLate }) => tooLate)),
    lost: sum(all.map(({ lost }) => lost)),
    trouble: all.flatMap(({ trouble }) => trouble),
  };
  for (const { refused } of all) {
    for (const [code, count] of Object.entries(refused)) seen.refused[code] = (seen.refused[code] ?? 0) + count;
  }
  process.send?.(seen, () => process.exit());
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? "{}"));
