// Deletes a closed pool: its ledger, its snapshots, and the sealed credentials of its proxies. The ledger is claimed
// first. So another picker that opens the pool at the same moment fails, and begins a new ledger afterwards.
//
// Only the ledger's snapshots and its archive are deleted after it, because it might not be folded without them. If the
// deletion fails before that, the pool is still closed, and can be deleted again.
import { invalid, type Refusal, refuse } from "../../protocol/refusal.ts";
import { ledgerStream, ledgerSubject, outcomeSubject, outcomesStream } from "../../protocol/subjects.ts";
import { Fault } from "../../runtime/fault.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import type { LeaderEvent } from "./leader-event.ts";
import { foldPool, letGo, type Station } from "./serving.ts";
import { lastSequence } from "./streams.ts";

const busy = (pool: string): Refusal =>
  refuse("unavailable", `The pool ${pool} is being opened or claimed.`, { retryAfterMs: 1000 });

/**
 * @param archive its archive goes, too. Otherwise it stays, even if a new pool of this name is opened.
 * @throws Fault if the ledger cannot be read, or the broker does not answer.
 */
export async function deletePool(
  pool: string,
  { picker, archive, isLed }: { picker: Station; archive: boolean; isLed: () => Promise<boolean> },
): Promise<{ deleted: true } | Refusal> {
  if (await isLed()) return invalid("pool", "is open. Close it first");
  const { promise: claimed, resolve } = Promise.withResolvers<boolean>();
  const tell = ({ type }: LeaderEvent): void => resolve(type === "claimed");
  const { signal } = new AbortController();
  const announce = async (): Promise<void> => {};
  const served = await picker.folds(() =>
    foldPool(pool, { picker, seen: () => undefined, forget: true, announce, tell, signal }),
  );
  const { leader, secrets } = served;
  const { opened, openedAt } = leader.state;
  const { ledger, follower } = picker.options.buses;
  try {
    if (leader.last.seq === 0) return refuse("unknown-pool", `There is no pool ${pool}.`);
    if (opened) return busy(pool);
    leader.lead().catch(() => resolve(false));
    if (!(await claimed)) return busy(pool);
  } finally {
    letGo(served);
  }
  const { seq } = leader.last;
  const { term } = leader.state;
  const forgotten = ((await picker.witnesses.of(pool)).witness?.forgotten ?? 0) + 1;
  const witness = { seq, n: 0, hash: "", opened: openedAt, forgotten, term, at: leader.now() };
  // Without it, the next start would report a ledger that is gone.
  if (!(await picker.witnesses.keep(pool, witness))) throw new Fault("retry-later", "its witness could not be stored");
  // This process may have stood still since its claim. Then another picker may have opened the pool.
  if ((await lastSequence(ledger, pool)) !== seq) return busy(pool);
  await secrets.prune(() => false);
  await callJs(ledger, `STREAM.PURGE.${ledgerStream}`, { filter: ledgerSubject(pool), seq: seq + 1 });
  await picker.snapshots.remove(pool);
  if (archive) await picker.archive?.remove(pool);
  // A new pool of this name would ignore these outcomes.
  await callJs(follower, `STREAM.PURGE.${outcomesStream}`, { filter: outcomeSubject(pool) }).catch(() => {});
  picker.options.log.warn({ pool }, "the pool is deleted");
  return { deleted: true };
}
