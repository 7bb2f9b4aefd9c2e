// Clients that ask again and again, over NATS and over HTTP. Their answers show when the service serves. They keep
// every lease that they were given.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { LeaseReply } from "../../protocol/lease.ts";
import { type Held, monotonicMs } from "../e2e/exactness-worker.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const pauseMs = 200;
const answerMsMax = 2000;

export interface ProberPorts {
  /** Of the broker. */
  natsUrl: string;
  /** Undefined: the API does not run now. */
  httpUrl: () => string | undefined;
  /** A pool whose leases never run out. */
  pool: string;
  /** Another pool, whose leader is only asked for its leases: `pool.stats` may reach any picker, even a frozen one. */
  asked: string;
}

/** Each is a way to be served. */
type Way = "leases over NATS" | "leases over HTTP" | "the other pool";

export class Prober {
  readonly held: Held[] = [];
  readonly #ports: ProberPorts;
  /** When the last request was sent that was served. */
  readonly #served = new Map<Way, number>();
  #nats: RawNats | undefined;
  #isStopped = false;
  readonly #loops: Promise<void>[];

  constructor(ports: ProberPorts) {
    this.#ports = ports;
    this.#loops = [
      this.#repeat(
        "leases over NATS",
        this.#leases((verb, body) => this.#overNats(`remuda.${verb}.${ports.pool}`, body)),
      ),
      this.#repeat(
        "leases over HTTP",
        this.#leases((verb, body) => this.#overHttp(verb, body)),
      ),
      this.#repeat(
        "the other pool",
        async () => "leases" in (await this.#overNats(`remuda.leases.list.${ports.asked}`, { limit: 1 })),
      ),
    ];
  }

  /** The ways on which no request was served that was sent after this instant (CLOCK_MONOTONIC). */
  unservedSince(on: number): Way[] {
    const ways: Way[] = ["leases over NATS", "leases over HTTP", "the other pool"];
    return ways.filter((way) => (this.#served.get(way) ?? -Infinity) < on);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#loops);
    await this.#nats?.close();
  }

  async #repeat(way: Way, serves: () => Promise<boolean>): Promise<void> {
    while (!this.#isStopped) {
      const sentAt = monotonicMs();
      if (await serves().catch(() => false)) this.#served.set(way, sentAt);
      await sleep(pauseMs);
    }
  }

  /** A request is repeated until it is answered. */
  #leases(call: (verb: "lease" | "release", body: object) => Promise<object>): () => Promise<boolean> {
    let requestId = randomUUID();
    return async () => {
      const askedAt = monotonicMs();
      const reply = (await call("lease", { requestId })) as LeaseReply | { code: string };
      if ("code" in reply) return false;
      const { url: _, ...lease } = reply;
      const gotAt = monotonicMs();
      const deadline = askedAt + lease.leftMs;
      this.held.push({ worker: -1, lease, requestId, exit: lease.host, conduct: "return", gotAt, deadline, acked: [] });
      requestId = randomUUID();
      await call("release", { leaseId: lease.leaseId, used: 0 }).catch(() => {}); // It ends by itself.
      return true;
    };
  }

  async #overNats(subject: string, body: object): Promise<object> {
    try {
      this.#nats ??= await connectRaw(this.#ports.natsUrl, { timeoutMs: answerMsMax });
      const answer = await this.#nats.request(subject, JSON.stringify(body), { timeoutMs: answerMsMax });
      return answer.status === 503 ? { code: "unavailable" } : answer.json<object>();
    } catch (error) {
      await this.#nats?.close();
      this.#nats = undefined;
      throw error;
    }
  }

  async #overHttp(verb: "lease" | "release", body: object): Promise<object> {
    const at = `${this.#ports.httpUrl() ?? ""}/v1/pools/${this.#ports.pool}/leases`;
    const signal = AbortSignal.timeout(answerMsMax);
    const { leaseId } = body as { leaseId?: string };
    const answer = await (verb === "lease"
      ? fetch(at, {
          method: "POST",
          body: JSON.stringify(body),
          headers: { "Content-Type": "application/json" },
          signal,
        })
      : fetch(`${at}/${leaseId}?used=0`, { method: "DELETE", signal }));
    return (await answer.json()) as object; // Any reply of the contract is an object.
  }
}
