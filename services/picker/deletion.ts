// Deletes a closed pool: its ledger, and the sealed credentials of its proxies. The ledger is claimed first. So another
// picker that opens the pool at the same moment fails, and begins a new ledger afterwards.
import { invalid, type Refusal, refuse } from "../../protocol/refusal.ts";
import { ledgerStream, ledgerSubject, outcomeSubject, outcomesStream } from "../../protocol/subjects.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import type { LeaderEvent } from "./leader.ts";
import { foldPool, letGo, type Station } from "./serving.ts";
import { lastSequence } from "./streams.ts";

const busy = (pool: string): Refusal =>
  refuse("unavailable", `The pool ${pool} is being opened or claimed.`, { retryAfterMs: 1000 });

/** @throws Fault if the ledger cannot be read, or the broker does not answer. */
export async function deletePool(
  pool: string,
  { picker, isLed }: { picker: Station; isLed: () => Promise<boolean> },
): Promise<{ deleted: true } | Refusal> {
  if (await isLed()) return invalid("pool", "is open. Close it first");
  const { promise: claimed, resolve } = Promise.withResolvers<boolean>();
  const tell = ({ type }: LeaderEvent): void => resolve(type === "claimed");
  const { signal } = new AbortController();
  const served = await foldPool(pool, {
    picker,
    seen: undefined,
    forget: true,
    announce: async () => {},
    tell,
    signal,
  });
  const { leader, secrets } = served;
  const { opened, openedAt, term } = leader.state;
  const { ledger, follower } = picker.options.buses;
  try {
    if (leader.sequence === 0) return refuse("unknown-pool", `There is no pool ${pool}.`);
    if (opened) return busy(pool);
    leader.lead().catch(() => resolve(false));
    if (!(await claimed)) return busy(pool);
  } finally {
    letGo(served);
  }
  const last = (await lastSequence(ledger, pool)) ?? 0;
  await callJs(ledger, `STREAM.PURGE.${ledgerStream}`, { filter: ledgerSubject(pool), seq: last + 1 });
  await secrets.prune(() => false);
  await picker.witnesses.keep(pool, {
    ...{ seq: last, n: 0, hash: "", opened: openedAt, term, at: leader.now() },
    forgotten: ((await picker.witnesses.of(pool)).witness?.forgotten ?? 0) + 1,
  });
  // A new pool of this name would ignore these outcomes.
  await callJs(follower, `STREAM.PURGE.${outcomesStream}`, { filter: outcomeSubject(pool) }).catch(() => {});
  picker.options.log.warn({ pool }, "the pool is deleted");
  return { deleted: true };
}
