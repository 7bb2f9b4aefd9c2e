// Numbers in the sentences of the docs, compared with those of the code.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { defaultPolicy, policySchema, type RateWindow } from "../../events/policy.ts";
import { waitMsMax } from "../../protocol/lease.ts";
import { restRequestSchema } from "../../protocol/proxy.ts";
import { candidatesBest, candidatesByLot, lookedAtMax } from "../../state-machines/candidates/bandit.ts";
import { pairsMax } from "../../state-machines/candidates/evidence.ts";
import { closedKeptMs, retiredKeptMs } from "../../state-machines/fold/state.ts";
import { classify } from "../../state-machines/policy/classify.ts";
import { readPolicy } from "../../state-machines/policy/policy.ts";
import { retryAfterMsMax } from "../../state-machines/rules/backoff.ts";

const root = new URL("../..", import.meta.url).pathname;
const spaced = (n: number): string => n.toLocaleString("en").replaceAll(",", " ");
const s = (ms: number): string => `${ms / 1000} s`;
const min = (ms: number): string => `${ms / 60_000} min`;
const h = (ms: number): string => `${ms / 3_600_000} h`;

const { concurrency, limitBy, score, lease, session, waiting } = defaultPolicy;
const rate = defaultPolicy.rate as RateWindow; // One window by default, as the docs say.
const usage = defaultPolicy.usage!; // On by default, as the docs say; so are the next two.
const failures = defaultPolicy.failures!;
const streak = defaultPolicy.streak!;
const backoff = defaultPolicy.backoff as Extract<typeof defaultPolicy.backoff, { kind: "exponential" }>;
const first = (base: number | undefined): number => 2 * (base ?? backoff.baseMs);

function strategyOf(kind: "time-based" | "bandit"): Record<string, unknown> {
  const read = readPolicy({ strategy: { kind } });
  if ("refusal" in read) throw new Error(read.refusal.message);
  return read.policy.strategy;
}
const bandit = strategyOf("bandit");

const told: [page: string, words: string[]][] = [
  [
    "rules.md",
    [
      `${rate.limit} uses in ${s(rate.windowMs)}`,
      `| \`${limitBy}\` |`,
      `(rules/concurrency.md) | ${concurrency} |`,
      `${usage.limit} uses, then ${min(usage.restMs)} of rest`,
      `more than ${failures.limit} within ${min(failures.windowMs)}: ${min(failures.restMs)} of rest`,
      `more than ${streak.limit} failures in a row: ${min(streak.restMs)} of rest`,
      `2ⁿ s after the n-th failure in a row, at most ${min(backoff.maxMs)}. Jitter is added: at most ${s(backoff.jitterMs)} or a fifth`,
      `\`blocked\` begins at ${s(first(backoff.baseMsBy.blocked))}, \`proxy-auth\` at ${min(first(backoff.baseMsBy["proxy-auth"]))}`,
      `within ±${spaced(score.max)}`,
      `${s(lease.ttlMs)}, at most ${h(lease.ttlMsMax)}, grace ${s(lease.graceMs)}, at most ${spaced(lease.usesMax)} uses`,
      `| \`${defaultPolicy.strategy.kind}\` |`,
      `${min(session.ttlMs)}, patience ${s(session.patienceMs)}, at most ${spaced(session.max)}`,
      `at most ${spaced(waiting.max)}`,
    ],
  ],
  [
    "rules/backoff.md",
    [
      `by default ${s(first(backoff.baseMs))}, ${s(2 * first(backoff.baseMs))}`,
      `\`blocked\` begins at ${s(first(backoff.baseMsBy.blocked))}, \`proxy-auth\` at ${min(first(backoff.baseMsBy["proxy-auth"]))}`,
      retryAfterMsMax === 3_600_000 ? "for at most an hour" : "another bound",
    ],
  ],
  ["rules/lease.md", [closedKeptMs === 600_000 ? "remembered for ten minutes" : "another span"]],
  ["rules/retiring.md", [retiredKeptMs === 3_600_000 ? "remembered for an hour at least" : "another span"]],
  ["rules/waiting.md", [`(at most ${spaced(waitMsMax)})`]],
  [
    "rules/strategies.md",
    [
      `\`intervalMs\` (${min(Number(strategyOf("time-based")["intervalMs"]))})`,
      `\`halfLifeMs\` (default ${min(Number(bandit["halfLifeMs"]))}), \`by\` (\`"${String(bandit["by"])}"\`) and \`slowMs\` (${min(Number(bandit["slowMs"]))})`,
      candidatesBest === 8 && candidatesByLot === 1 ? "eight with the best mean and one drawn at random" : "others",
      `looks at no more than the best ${lookedAtMax}`,
      `At most ${spaced(pairsMax)} pairs`,
    ],
  ],
];

test.each(told)("the sentences of docs/%s contain the numbers of the code", (page, words) => {
  const text = readFileSync(join(root, "docs", page), "utf8").replaceAll(/\s+/g, " ");
  for (const each of words) expect(text).toContain(each);
});

test("a jitter of a fifth, manual rests of at most 30 days, eight windows", () => {
  expect(backoff.jitterShare).toBe(0.2);
  expect(score.min).toBe(-score.max);
  const rest = (days: number): boolean => restRequestSchema.safeParse({ ids: ["p"], forMs: days * 86_400_000 }).success;
  expect([rest(30), rest(31)]).toEqual([true, false]);
  const windows = (count: number): boolean =>
    policySchema.shape.rate.safeParse(Array.from({ length: count }, (_, i) => ({ limit: 1, windowMs: i + 1 }))).success;
  expect([windows(8), windows(9)]).toEqual([true, false]);
});

test("the table of classes on the page of outcomes is the default", () => {
  const text = readFileSync(join(root, "docs/rules/outcomes.md"), "utf8");
  const rows = [...text.matchAll(/^\| (`.*) \| (.*) \| (.*) \| (.*) \|$/gm)].slice(0, 5);
  const found: string[] = [];
  for (const [, classes = "", points = "", counted = "", rest = ""] of rows) {
    for (const [, name = "", statuses = ""] of classes.matchAll(/`([a-z-]+)`(?: \(([^)]*)\))?/g)) {
      found.push(name);
      expect(defaultPolicy.outcomes[name as keyof typeof defaultPolicy.outcomes], name).toEqual({
        score: points === "+1" ? 1 : points === "−1" ? -1 : 0,
        counts: counted === "count",
        rest: rest === "–" ? "none" : "backoff",
      });
      for (const [status] of statuses.matchAll(/\b\d(\d\d|xx)/g)) {
        const seen = status === "4xx" ? 418 : Number(status.replace("xx", "00"));
        expect(classify(defaultPolicy, { status: seen }), status).toBe(name);
      }
    }
  }
  expect(found.sort()).toEqual(Object.keys(defaultPolicy.outcomes).sort());
});
