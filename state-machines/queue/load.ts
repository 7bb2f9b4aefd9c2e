// The requests that wait to be decided, and their bounds. Requests that end or keep a lease have a share of their own:
// reports, releases, renewals and cancels. So a flood of new lease requests does not keep leases from being reported,
// and a flood of reports does not hold up lease requests.
import type { Request } from "../command.ts";

export type Share = "settling" | "others";

const settling: ReadonlySet<string> = new Set(["report", "ignore", "release", "renew", "cancel"]);

/** @param type of a request, or its verb. */
export function shareOf(type: string): Share {
  return settling.has(type) ? "settling" : "others";
}

export function shareIn({ request }: Weighed): Share {
  return shareOf(request.type === "each" ? (request.commands[0]?.type ?? "each") : request.type);
}

export interface Weighed {
  readonly request: Request;
  /** Size of the request as it came. Absent: none. */
  readonly bytes?: number | undefined;
}

export class Load {
  readonly requests: Record<Share, number> = { settling: 0, others: 0 };
  readonly bytes: Record<Share, number> = { settling: 0, others: 0 };

  add(asked: Weighed): void {
    const share = shareIn(asked);
    this.requests[share]++;
    this.bytes[share] += asked.bytes ?? 0;
  }

  remove(asked: Weighed): void {
    const share = shareIn(asked);
    this.requests[share]--;
    this.bytes[share] -= asked.bytes ?? 0;
  }
}
