// Requests that have come for a leader since its last turn. A rejected request is not decided, and leaves no trace in
// the ledger.
import { overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Answer, Request } from "../../state-machines/command.ts";
import { Load, type Share, shareIn, type Weighed } from "../../state-machines/queue/load.ts";
import type { Asked } from "../../state-machines/queue/requests.ts";
import type { Sender } from "./gate.ts";
import type { Growth } from "./growth.ts";
import type { LeftOut } from "./left-out.ts";
import type { PoolMetrics } from "./metrics.ts";
import type { Who } from "./who.ts";

export interface Call {
  respond(answer: object): void;
  /** Size of the request as it came. Absent: it came from this process. */
  bytes?: number | undefined;
  /** In the pool's time. */
  arrivedAt: number;
  who: Who;
  /** Absent: it came from this process, or another picker passed it on. */
  from?: Sender | undefined;
}

export interface Caller extends Call {
  /** The answer in the form of the protocol; undefined if it comes later. A refusal is passed on as it is. */
  reply(answer: Answer): object | undefined;
  /** Marks a request whose duration is counted. */
  isLease?: true;
}

interface InboxPorts {
  growth: Pick<Growth, "admit">;
  metrics: PoolMetrics;
  /** Whether it is certain that this process has led until now. If not, nothing is said. */
  isSure: () => boolean;
  leftOut: Pick<LeftOut, "refusalOf">;
  /** A rejection waits for the proof. */
  onHeld: () => void;
}

/** Of each share of the queue. */
const requestsMax = 20_000;
const bytesMax = 32 * 1024 ** 2;

export class Inbox {
  isOver = false;
  readonly #ports: InboxPorts;
  #asked: Asked<Caller>[] = [];
  /** Of the requests that have come since the last turn. */
  #load = new Load();
  #isStalled = false;
  /** Rejections that wait for the proof. */
  #held: (() => void)[] = [];

  constructor(ports: InboxPorts) {
    this.#ports = ports;
  }

  /** From now on every request is rejected. */
  close(): void {
    this.isOver = true;
  }

  /**
   * @param waiting the requests that wait to be decided. Returns whether the request is accepted; if not, its
   * caller has been answered.
   */
  add(request: Request, caller: Caller, waiting: Load): boolean {
    const { bytes } = caller;
    const refusal = this.#refusalOf({ request, bytes }, waiting);
    const to = refusal === undefined ? this.#ports.growth.admit(request, caller) : undefined;
    if (to !== undefined) {
      const asked = { to, request, bytes };
      this.#asked.push(asked);
      this.#load.add(asked);
    } else this.reject(caller, refusal ?? nearlyFull());
    return to !== undefined;
  }

  /** Whether a request of this size may be read. If not, its caller is answered. */
  admits(share: Share, call: Pick<Call, "respond" | "bytes">, waiting: Load): boolean {
    const refusal = this.#fullFor(share, call.bytes ?? 0, waiting);
    if (refusal !== undefined) this.reject(call, refusal);
    return refusal === undefined;
  }

  /** Answers a request undecided, as soon as it is certain that this process leads. */
  reject(caller: Pick<Call, "respond">, refusal: Refusal): void {
    const { metrics, isSure, onHeld } = this.#ports;
    const say = (): void => {
      metrics.rejected(refusal.code);
      caller.respond(refusal);
    };
    if (isSure()) return say();
    // Beyond the bound a request gets no answer, and its client repeats it.
    if (this.isOver || this.#held.length >= requestsMax) return;
    this.#held.push(say);
    onHeld();
  }

  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** It is proven that this process leads. */
  release(): void {
    for (const say of this.#held.splice(0)) say();
  }

  /** Takes the requests for the next turn. */
  take(): Asked<Caller>[] {
    const asked = this.#asked;
    this.#asked = [];
    this.#load = new Load();
    return asked;
  }

  /**
   * Called when the commit in flight has had no result for too long.
   * @param unbegun callers whose requests wait to be decided.
   */
  stall(unbegun: readonly Caller[]): void {
    this.#isStalled = true;
    for (const caller of [...unbegun, ...this.take().map(({ to }) => to)]) this.reject(caller, stalled());
  }

  goOn(): void {
    this.#isStalled = false;
  }

  #refusalOf(asked: Weighed, waiting: Load): Refusal | undefined {
    if (this.isOver) return unavailable("This process no longer leads the pool.");
    if (this.#isStalled) return stalled();
    return this.#fullFor(shareIn(asked), asked.bytes ?? 0, waiting) ?? this.#ports.leftOut.refusalOf(asked.request);
  }

  #fullFor(share: Share, bytes: number, waiting: Load): Refusal | undefined {
    if (waiting.requests[share] + this.#load.requests[share] >= requestsMax)
      return overloaded(`More than ${requestsMax} requests are waiting to be decided.`);
    if (waiting.bytes[share] + this.#load.bytes[share] + bytes <= bytesMax) return undefined;
    return overloaded(`The requests that wait to be decided already have ${bytesMax >> 20} MiB.`);
  }
}

/** Transient: retry shortly. */
export function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs: 1000 });
}

function stalled(): Refusal {
  return unavailable("The broker does not acknowledge commits at the moment.");
}

function nearlyFull(): Refusal {
  return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
}
