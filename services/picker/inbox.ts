// Requests that have come for a leader since its last turn. A rejected request is not decided, and leaves no trace in
// the ledger.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Request } from "../../state-machines/command.ts";
import type { Asked } from "../../state-machines/queue/requests.ts";
import type { Caller } from "./caller.ts";
import { Fill } from "./fill.ts";
import type { PoolMetrics } from "./metrics.ts";

const requestsMax = 20_000;

export class Inbox {
  readonly fill: Fill;
  isOver = false;
  readonly #metrics: PoolMetrics;
  #asked: Asked<Caller>[] = [];
  #isStalled = false;

  constructor(ports: ConstructorParameters<typeof Fill>[0], metrics: PoolMetrics) {
    this.fill = new Fill(ports);
    this.#metrics = metrics;
  }

  /**
   * @param waiting how many requests wait to be decided. Returns whether the request is accepted; if not, its caller
   * has been answered.
   */
  add(request: Request, caller: Caller, waiting: number): boolean {
    const refusal = this.#refusalOf(request, waiting + this.#asked.length);
    if (refusal === undefined) this.#asked.push({ to: caller, request });
    else this.#reject(caller, refusal);
    return refusal === undefined;
  }

  /** Takes the requests for the next turn. */
  take(): Asked<Caller>[] {
    const asked = this.#asked;
    this.#asked = [];
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

  #refusalOf(request: Request, waiting: number): Refusal | undefined {
    if (this.isOver) return unavailable("This process no longer leads the pool.");
    if (this.#isStalled) return stalled();
    if (this.fill.isHigh && grows(request))
      return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
    if (waiting < requestsMax) return undefined;
    const why = `More than ${requestsMax} requests are waiting to be decided.`;
    return refuse("overloaded", why, { retryAfterMs: 1000 });
  }

  #reject(caller: Caller, refusal: Refusal): void {
    this.#metrics.rejected(refusal.code);
    caller.respond(refusal);
  }
}

/** Grants and added proxies make the ledger grow. They are refused first when it fills up. */
function grows(request: Request): boolean {
  if (request.type === "each") return request.commands[0]?.type === "add";
  return request.type === "lease" || request.type === "get-token";
}

/** Transient: retry shortly. */
function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs: 1000 });
}

function stalled(): Refusal {
  return unavailable("The broker does not acknowledge commits at the moment.");
}
