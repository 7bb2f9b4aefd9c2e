// Every NATS subject, stream and bucket name in one place. The verb is in the subject, the pool last.
import type { Verb } from "./verbs.ts";

export const ledgerStream = "REMUDA_LEDGER";
export const outcomesStream = "REMUDA_OUTCOMES";
export const secretsBucket = "remuda-secrets";
export const snapshotsBucket = "remuda-snapshots";

export const ledgerSubject = (pool: string): string => `remuda.ledger.${pool}`;
export const outcomeSubject = (pool: string): string => `remuda.outcome.${pool}`;
/** A new leader says here that it leads, before it answers anything. */
export const noticeSubject = (pool: string): string => `remuda.notice.${pool}`;
export const noticeSubjects = "remuda.notice.*";
/** Between pickers: the report of each about itself, by its id or by a pool that it leads. */
export const pickerSubject = (id: string): string => `remuda.picker.${id}`;
export const pickerOfSubject = (pool: string): string => pickerSubject(`of.${pool}`);
export const pickerSubjects = "remuda.picker.>";
export const ledgerSubjects = "remuda.ledger.*";
export const outcomeSubjects = "remuda.outcome.>";

/** `pool.list` does not belong to one pool. */
export const requestSubject = (verb: Verb, pool: string): string =>
  `remuda.${verb}.${verb === "pool.list" ? "all" : pool}`;
export const poolListSubject = requestSubject("pool.list", "");
