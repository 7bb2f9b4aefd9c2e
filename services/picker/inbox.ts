// Requests that have come for a leader since its last turn. A rejected request is not decided, and leaves no trace in
// the ledger.
import { overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import type { Answer, Request } from "../../state-machines/command.ts";
import { Load, type Share, shareIn, type Weighed } from "../../state-machines/queue/load.ts";
import type { Asked } from "../../state-machines/queue/requests.ts";
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
}

export interface Caller extends Call {
  /** The answer in the form of the protocol; undefined if it comes later. A refusal is passed on as it is. */
  reply(answer: Answer): object | undefined;
  /** Marks a request whose duration is counted. */
  isLease?: true;
}

interface InboxPorts {
  ledger: Pick<Ledger, "fill">;
  clock: Pick<Clock, "after">;
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
/** How full the ledger may be. The space above is for reports, ends and claims, which must not be refused. */
const fillMax = 0.9;
const fillEveryMs = 5000;

export class Inbox {
  isOver = false;
  readonly #ports: InboxPorts;
  #asked: Asked<Caller>[] = [];
  /** Of the requests that have come since the last turn. */
  #load = new Load();
  #isStalled = false;
  #isNearlyFull = false;
  /** Rejections that wait for the proof. */
  #held: (() => void)[] = [];
  #cancelLook = (): void => {};

  constructor(ports: InboxPorts) {
    this.#ports = ports;
  }

  /** Looks how full the ledger is, and again every few seconds. Resolves after the first look. */
  async watchFill(): Promise<void> {
    const { ledger, clock } = this.#ports;
    try {
      this.#isNearlyFull = (await ledger.fill()) >= fillMax;
    } catch {
      // The broker is away. The commit in flight shows the same more clearly.
    }
    if (!this.isOver) this.#cancelLook = clock.after(fillEveryMs, () => void this.watchFill());
  }

  /** From now on every request is rejected. */
  close(): void {
    this.isOver = true;
    this.#cancelLook();
  }

  /**
   * @param waiting what waits to be decided. Returns whether the request is accepted; if not, its caller has been
   * answered.
   */
  add(request: Request, caller: Caller, waiting: Load): boolean {
    const asked = { to: caller, request, bytes: caller.bytes };
    const refusal = this.#refusalOf(asked, waiting);
    if (refusal === undefined) {
      this.#asked.push(asked);
      this.#load.add(asked);
    } else this.#reject(caller, refusal);
    return refusal === undefined;
  }

  /** Whether a request of this size may be read. If not, its caller is answered. */
  admits(share: Share, call: Pick<Call, "respond" | "bytes">, waiting: Load): boolean {
    const refusal = this.#fullFor(share, call.bytes ?? 0, waiting);
    if (refusal !== undefined) this.#reject(call, refusal);
    return refusal === undefined;
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
    for (const caller of [...unbegun, ...this.take().map(({ to }) => to)]) this.#reject(caller, stalled());
  }

  goOn(): void {
    this.#isStalled = false;
  }

  #refusalOf(asked: Weighed, waiting: Load): Refusal | undefined {
    if (this.isOver) return unavailable("This process no longer leads the pool.");
    if (this.#isStalled) return stalled();
    if (this.#isNearlyFull && grows(asked.request))
      return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
    return this.#fullFor(shareIn(asked), asked.bytes ?? 0, waiting) ?? this.#ports.leftOut.refusalOf(asked.request);
  }

  #fullFor(share: Share, bytes: number, waiting: Load): Refusal | undefined {
    if (waiting.requests[share] + this.#load.requests[share] >= requestsMax)
      return overloaded(`More than ${requestsMax} requests are waiting to be decided.`);
    if (waiting.bytes[share] + this.#load.bytes[share] + bytes <= bytesMax) return undefined;
    return overloaded(`The requests that wait to be decided have ${bytesMax >> 20} MiB, and no more are taken.`);
  }

  #reject(caller: Pick<Call, "respond">, refusal: Refusal): void {
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
}

/** Grants and added proxies make the ledger grow. They are refused first when it fills up. */
function grows(request: Request): boolean {
  if (request.type === "each") return request.commands[0]?.type === "add";
  return request.type === "lease" || request.type === "get-token";
}

/** Transient: retry shortly. */
export function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs: 1000 });
}

function stalled(): Refusal {
  return unavailable("The broker does not acknowledge commits at the moment.");
}
