// Ledgers for tests of the audit: real ones, made by the real decisions, and forged ones.
import { LedgerMaker, type MakerOptions } from "../../bench/ledger-maker.ts";
import { everyStrategy } from "../../bench/strategies.ts";
import { type CommitEnvelope, decodeCommit } from "../../events/commit.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Finding } from "../../services/audit/checker/finding.ts";
import type { LedgerSource } from "../../services/audit/source.ts";
import { verify } from "../../services/audit/verify.ts";
import type { Seeded } from "../kit/seed.ts";

export function makeLedger(commits: number, options: Partial<MakerOptions> = {}): Buffer[] {
  const maker = new LedgerMaker({
    seed: 1,
    proxies: 12,
    requestsPerTurn: 3,
    pauseMs: 200,
    chaos: 10,
    failures: 15,
    ...options,
  });
  return Array.from({ length: commits }, () => maker.next());
}

/** A ledger as an audit reads it, with sequences as in a stream that two pools share. */
export function sourceOf(commits: readonly Buffer[]): LedgerSource {
  const entries = commits.map((bytes, i) => ({ seq: 2 * (i + 1), storedAt: 0, line: 0, bytes }));
  let done = 0;
  return {
    where: "memory",
    get done() {
      return done;
    },
    size: async () => 2 * entries.length,
    async *read(after = { seq: 0 }) {
      const rest = entries.filter((entry) => entry.seq > after.seq);
      for (let i = 0; i < rest.length; i += 100) {
        const batch = rest.slice(i, i + 100);
        done = batch.at(-1)?.seq ?? 0;
        yield batch;
      }
    },
    entryAt: async (seq) => entries.find((entry) => entry.seq === seq),
    last: async () => entries.at(-1),
    close: async () => {},
  };
}

export async function findingsIn(commits: readonly Buffer[]): Promise<Finding[]> {
  const { findings, isWell } = await verify(sourceOf(commits), {});
  if (isWell !== (findings.length === 0)) throw new Error(`well: ${isWell}, and ${findings.length} findings`);
  return findings;
}

/**
 * Changes one commit, and repairs the chain of all later ones like a skilled forger, so that only the rules can tell.
 */
export function forge(commits: readonly Buffer[], index: number, change: (commit: CommitEnvelope) => void): Buffer[] {
  let prev = index === 0 ? "" : hashOf(commits[index - 1]!);
  return commits.map((bytes, i) => {
    if (i < index) return bytes;
    const commit = decodeCommit(bytes.toString());
    if (i === index) change(commit);
    const forged = Buffer.from(JSON.stringify({ ...commit, prev }));
    prev = hashOf(forged);
    return forged;
  });
}

/** The first commit with an event for which this is true, and that event's place in it. */
export function findEvent(
  commits: readonly Buffer[],
  matches: (event: Record<string, unknown>, commit: CommitEnvelope) => boolean,
  from = 0,
): { index: number; place: number } {
  for (let index = from; index < commits.length; index++) {
    const commit = decodeCommit(commits[index]!.toString());
    // The fields of any event.
    const place = commit.events.findIndex((event) => matches(event as Record<string, unknown>, commit));
    if (place >= 0) return { index, place };
  }
  throw new Error("no such event in this ledger");
}

/** Random rules, as different as possible. */
export function randomPolicy(random: Seeded): Record<string, unknown> {
  const windowMs = random.int(500, 20_000);
  return {
    rate: random.chance(0.2)
      ? [
          { limit: random.int(1, 6), windowMs },
          { limit: random.int(6, 20), windowMs: windowMs * 3 },
        ]
      : { limit: random.int(1, 10), windowMs },
    countFrom: random.chance(0.8) ? "report" : "grant",
    concurrency: random.chance(0.2) ? null : random.int(1, 3),
    usage: random.chance(0.3) ? null : { limit: random.int(3, 40), restMs: random.int(500, 10_000) },
    marginMs: random.int(0, 100),
    failures: random.chance(0.3)
      ? null
      : { limit: random.int(1, 5), windowMs: random.int(500, 9000), restMs: random.int(500, 9000) },
    streak: random.chance(0.3)
      ? null
      : {
          limit: random.int(1, 5),
          restMs: random.int(500, 9000),
          retireAfter: random.chance(0.3) ? random.int(1, 4) : null,
        },
    backoff: random.pick([
      {
        kind: "exponential",
        baseMs: random.int(20, 300),
        maxMs: 3000,
        jitterMs: random.int(0, 200),
        baseMsBy: { blocked: 900 },
      },
      { kind: "fixed", restMs: random.int(100, 3000), jitterMs: random.int(0, 100) },
      { kind: "none" },
    ]),
    session: { ttlMs: random.int(200, 5000), patienceMs: random.int(0, 3000), max: random.int(1, 12) },
    holder: { leasesMax: random.chance(0.6) ? null : random.int(1, 4) },
    lease: { ttlMs: random.int(100, 2000), ttlMsMax: 5000, graceMs: random.int(0, 400), usesMax: 10 },
    strategy: random.pick<Record<string, unknown>>([
      ...everyStrategy({ intervalMs: 0, halfLifeMs: 0 }).filter((strategy) => Object.keys(strategy).length === 1),
      { kind: "time-based", intervalMs: random.int(500, 5000) },
      {
        kind: "bandit",
        halfLifeMs: random.int(1000, 60_000),
        by: random.pick(["proxy", "target"]),
        slowMs: random.chance(0.5) ? null : random.int(50, 900),
      },
    ]),
  };
}
