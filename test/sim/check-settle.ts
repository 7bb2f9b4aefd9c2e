// Live equals replayed; and when the faults have stopped and time has passed, nothing is left over.
import { advance } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { canonical } from "../../state-machines/structures/canonical.ts";
import { type Court, short } from "./court.ts";
import { replay } from "./fork.ts";
import type { SimService } from "./service.ts";

export function checkReplay(court: Court, service: SimService): void {
  const live = service.leader?.state;
  if (live === undefined) return;
  const replayed = replay(service.broker.ledger.commits);
  if (replayed.term !== live.term || replayed.commits !== live.commits) return; // One that was deposed and does not know.
  advance(replayed, live.at);
  const [was, is] = [snapshotOf(replayed), snapshotOf(live)].map(canonical); // A restored one has another order.
  if (was !== is) court.find("replay", `live and replayed state differ: ${difference(was!, is!)}`); // Two were mapped.
}

/** Outcomes that the stream still has are in the ledger, each of them. */
export function checkIngested(court: Court, service: SimService): void {
  for (const message of service.broker.outcomes) {
    for (const { leaseId, n, missing } of outcomesIn(message.bytes)) {
      const lease = court.book.leases.get(leaseId);
      if (lease === undefined || missing || lease.reported.has(n)) continue;
      court.find("outcome", `use ${n} of ${short(leaseId)}, stored at ${message.storedAt}, is in no commit`);
    }
  }
}

export function checkSettled(court: Court, service: SimService): void {
  const { book } = court;
  const state = service.leader?.state;
  if (state === undefined) return court.find("settle", "the pool has no leader at the end");
  const [lease] = book.open;
  if (lease !== undefined)
    court.find("settle", `${short(lease.id)} is open for ever, and should have ended at ${lease.expiresAt}`);
  const resting = [...book.proxies.values()].find((proxy) => proxy.resting && !proxy.retired);
  if (resting !== undefined)
    court.find("settle", `${short(resting.id)} rests for ever, and its rest should have ended at ${resting.until}`);
  const waiting = service.leader?.engine.waiting.size ?? 0;
  if (waiting > 0) court.find("settle", `${waiting} requests wait for ever`);
  for (const account of book.accounts.values()) {
    const held = account.rates.find(
      ({ windowMs }) => account.occupied(windowMs, court.world.now, book.rules.marginMs) > 0,
    );
    if (held !== undefined) court.find("settle", `slots of ${account.key} are occupied for ever`);
  }
}

/** The outcomes in a message of the stream, as far as they can be read. */
function outcomesIn(bytes: Uint8Array): { leaseId: string; n: number; missing: boolean }[] {
  try {
    const body: unknown = JSON.parse(Buffer.from(bytes).toString());
    return (Array.isArray(body) ? body : [body]).map(
      ({ leaseId, n, result, reason, status, error, tokenRejected }) => ({
        leaseId,
        n: n ?? 1,
        missing: n === undefined || [result, reason, status, error, tokenRejected].every((each) => each === undefined),
      }),
    );
  } catch {
    return [];
  }
}

function difference(a: string, b: string): string {
  let at = 0;
  while (a[at] === b[at]) at++;
  return `…${a.slice(Math.max(0, at - 60), at + 40)}… and …${b.slice(Math.max(0, at - 60), at + 40)}…`;
}
