// Every outcome is recorded as the class that it was sent with.
import type { UseReported } from "../../events/outcome.ts";
import { type Court, short } from "./court.ts";

/** The outcomes that workers have sent: for each use, the classes with which it may have been reported. */
export class Sent {
  readonly #classes = new Map<string, Set<string>>();

  add(leaseId: string, n: number, kind: string): void {
    const key = `${leaseId}:${n}`;
    const classes = this.#classes.get(key) ?? new Set();
    this.#classes.set(key, classes.add(kind));
  }

  has(leaseId: string, n: number, kind: string): boolean {
    return this.#classes.get(`${leaseId}:${n}`)?.has(kind) ?? false;
  }
}

/** Called just before it is written. */
export function checkOutcome(court: Court, event: UseReported, sent: Sent): void {
  const { book } = court;
  const lease = book.lease(event.leaseId);
  if (!sent.has(lease.id, event.n, event.class))
    court.find("outcome", `use ${event.n} of ${short(lease.id)} (${event.class}) was never sent`);
  if (event.late === true) court.saw("outcome: late");
  if (lease.epoch !== lease.proxy.epoch) court.saw("outcome: of an older epoch");
  if (event.over === true) court.saw("outcome: beyond the uses granted");
  court.saw(`outcome: ${event.class}`);
}
