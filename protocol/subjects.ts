// Every NATS subject, stream and bucket name in one place. The verb is in the subject, the pool last.

export const ledgerStream = "REMUDA_LEDGER";
export const outcomesStream = "REMUDA_OUTCOMES";
export const secretsBucket = "remuda-secrets";

export const ledgerSubject = (pool: string): string => `remuda.ledger.${pool}`;
export const outcomeSubject = (pool: string): string => `remuda.outcome.${pool}`;
export const ledgerSubjects = "remuda.ledger.*";
export const outcomeSubjects = "remuda.outcome.>";

/** Answered by the pool's leader alone: a pool that nobody leads gives NATS's own "no responders". */
export const leaderVerbs = [
  "lease",
  "withdraw",
  "renew",
  "release",
  "report",
  "proxies.add",
  "proxies.list",
  "proxies.get",
  "proxies.export",
  "proxies.retire",
  "proxies.rest",
  "proxies.revive",
  "leases.list",
  "token.get",
  "token.reject",
] as const;

/** Answered by any picker. */
export const poolVerbs = ["pool.open", "pool.get", "pool.policy", "pool.stats", "pool.metrics", "pool.close"] as const;

/** Answered by the sources service, for any pool. */
export const sourceVerbs = ["sources.list", "sources.put", "sources.remove", "sources.read"] as const;

/** Between the pool's leader and the executors of refreshes; no part of the contract. */
export const executorVerbs = ["token.take", "token.result"] as const;

export type ExecutorVerb = (typeof executorVerbs)[number];
/** Answered by the audit, from the ledger: it needs no leader. */
export const auditVerbs = ["audit.proxies"] as const;

export type AuditVerb = (typeof auditVerbs)[number];
export type LeaderVerb = (typeof leaderVerbs)[number];
export type PoolVerb = (typeof poolVerbs)[number];
export type SourceVerb = (typeof sourceVerbs)[number];
export type Verb = LeaderVerb | PoolVerb | SourceVerb;
export type AnyVerb = Verb | ExecutorVerb | AuditVerb;

export const requestSubject = (verb: AnyVerb, pool: string): string => `remuda.${verb}.${pool}`;
export const poolListSubject = "remuda.pool.list.all";
