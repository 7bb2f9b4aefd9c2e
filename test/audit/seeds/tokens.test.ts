// Guest tokens in the audit. An independent checker finds nothing wrong in random ledgers with tokens. A restored state
// keeps the tokens. A record with tokens is reproduced when it is decided again.
import { expect, test } from "vitest";
import { tokenStates } from "../../../events/token.ts";
import { verify } from "../../../services/audit/verify.ts";
import { whatIf } from "../../../services/audit/what-if/what-if.ts";
import { advance, foldCommit } from "../../../state-machines/fold/evolve.ts";
import { restore, snapshotOf } from "../../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../../state-machines/fold/state.ts";
import { expectAlike } from "../../kit/alike.ts";
import { seeded } from "../../kit/seed.ts";
import { sourceOf } from "../ledgers.ts";
import { randomPool } from "../token-ledgers.ts";

const foldAll = (commits: readonly Buffer[]): PoolState => {
  const state = new PoolState("");
  for (const bytes of commits) foldCommit(state, JSON.parse(bytes.toString()));
  return state;
};
const seeds = Array.from({ length: 14 }, (_, i) => i + 1);

test("finds nothing wrong in ledgers with random token requests, mints, refusals and rejections", {
  timeout: 120_000,
}, async () => {
  const total = new Map<string, number>();
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const report = await verify(sourceOf(commits), {});
    expect(report.findings.slice(0, 3), `seed ${seed}`).toEqual([]);
    for (const bytes of commits)
      for (const { type, why } of (JSON.parse(bytes.toString()) as { events: { type: string; why?: string }[] }).events)
        for (const name of [type, `${type} ${why}`]) total.set(name, (total.get(name) ?? 0) + 1);
  }
  // The ledgers must have exercised the rules.
  for (const name of [
    "TokenMinted",
    "TokenRefused status",
    "TokenRefused deadline",
    "TokenRejected",
    ...["asked", "rejected", "expired", "ahead"].map((why) => `TokenRequested ${why}`),
  ])
    expect(total.get(name), name).toBeGreaterThan(3);
});

test("restores a state with tokens in each of their states, then and after every later commit", {
  timeout: 120_000,
}, () => {
  const seen = new Set<string>();
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const random = seeded(seed);
    for (let cuts = 0; cuts < 12; cuts++) {
      const cut = random.int(1, commits.length - 1);
      const state = foldAll(commits.slice(0, cut));
      for (const token of state.tokens.values()) seen.add(token.state);
      const restored = restore(JSON.parse(JSON.stringify(snapshotOf(state))));
      const derivedOf = (of: PoolState) => ({
        ids: [...of.tokenIds].map(([id, { key }]) => `${id} ${key}`).sort(),
        first: of.deadlines.top?.key,
        next: of.tokenTimes.top?.changesAt,
      });
      expectAlike(snapshotOf(restored), snapshotOf(state), `seed ${seed}`);
      expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
      for (const bytes of commits.slice(cut, cut + 15)) {
        foldCommit(state, JSON.parse(bytes.toString()));
        foldCommit(restored, JSON.parse(bytes.toString()));
        expectAlike(snapshotOf(restored), snapshotOf(state), `seed ${seed}`);
        expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
      }
      advance(state, state.at + 1_000_000);
      advance(restored, restored.at + 1_000_000);
      expectAlike(derivedOf(restored), derivedOf(state), `seed ${seed}`);
    }
  }
  expect([...seen].sort()).toEqual([...tokenStates].sort());
});

test("reproduces a record with tokens, and the alternative history under the same policy", {
  timeout: 120_000,
}, async () => {
  for (const seed of seeds) {
    const { commits } = randomPool(seed);
    const result = await whatIf(sourceOf(commits), { policy: {}, waitMs: 60_000 });
    expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
    expect(result.same, `seed ${seed}`).toEqual({ commits: commits.length, of: commits.length });
    expect(result.other.findings, `seed ${seed}`).toBe(0);
  }
});
