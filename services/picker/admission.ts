// Which requests a leader takes. One that is turned away is not decided: nothing of it is in the ledger.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Request } from "../../state-machines/command.ts";
import { Fill } from "./fill.ts";

const requestsMax = 20_000;

export class Admission {
  readonly fill: Fill;
  isOver = false;
  /** The commit in flight has had no result for too long. */
  isStalled = false;

  constructor(ports: ConstructorParameters<typeof Fill>[0]) {
    this.fill = new Fill(ports);
  }

  /** @param waiting requests that are waiting to be decided. Undefined: the request is taken. */
  refusalOf(request: Request, waiting: number): Refusal | undefined {
    if (this.isOver) return unavailable("This process no longer leads the pool.");
    if (this.isStalled) return stalled();
    if (this.fill.isHigh && grows(request))
      return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
    if (waiting < requestsMax) return undefined;
    const why = `More than ${requestsMax} requests are waiting to be decided.`;
    return refuse("overloaded", why, { retryAfterMs: 1000 });
  }
}

export function stalled(): Refusal {
  return unavailable("The broker does not acknowledge commits at the moment.");
}

/** Grants, and proxies that are added, make the ledger grow: they are refused first when it fills up. */
function grows(request: Request): boolean {
  if (request.type === "each") return request.commands[0]?.type === "add";
  return request.type === "lease" || request.type === "get-token";
}

/** Transient: retry shortly. */
function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs: 1000 });
}
