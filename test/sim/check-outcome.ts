// Every outcome counts once, as the class it was sent with, in score, streak and totals.
import type { UseReported } from "../../events/outcome.ts";
import { type Court, short } from "./court.ts";

/** What workers have sent: the classes that a use may have been reported with. */
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

/** Asked just before it is written. */
export function checkOutcome(court: Court, event: UseReported, sent: Sent): void {
  const { book } = court;
  const { rules } = book;
  const lease = book.lease(event.leaseId);
  const { proxy } = lease;
  const what = `use ${event.n} of ${short(lease.id)} (${event.class})`;
  const rule = rules.outcomes[event.class];
  if (lease.reported.has(event.n)) court.find("outcome", `${what} is counted a second time`);
  if (!sent.has(lease.id, event.n, event.class)) court.find("outcome", `${what} was never sent by anybody`);
  const score = Math.min(rules.score.max, Math.max(rules.score.min, proxy.score + rule.score));
  if (event.score !== score)
    court.find("score", `${what} makes the score ${event.score}: ${proxy.score} and then ${score}`);
  const isCurrent = lease.epoch === proxy.epoch;
  const streak = !isCurrent ? proxy.streak : event.class === "success" ? 0 : proxy.streak + (rule.counts ? 1 : 0);
  if (event.streak !== streak) {
    const why = isCurrent ? "" : `, and it is of epoch ${lease.epoch} while the proxy is in ${proxy.epoch}`;
    court.find(isCurrent ? "streak" : "epoch", `${what} makes the streak ${event.streak}, not ${streak}${why}`);
  }
  if ((event.counts === true) !== rule.counts)
    court.find("failures", `${what} ${event.counts === true ? "counts" : "does not count"} for the failure window`);
  const late = event.storedAt > lease.expiresAt + book.graceOf(lease);
  if ((event.late === true) !== late)
    court.find(
      "outcome",
      `${what}, stored at ${event.storedAt}, is ${late ? "" : "not "}late, and the ledger says otherwise`,
    );
  if (late) court.saw("outcome: late");
  if (!isCurrent) court.saw("outcome: of an older epoch");
  if (event.over === true) court.saw("outcome: beyond the uses granted");
  court.saw(`outcome: ${event.class}`);
}
