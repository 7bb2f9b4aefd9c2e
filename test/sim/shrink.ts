// Reduces a run with a finding to the fewest steps that still give the same finding. Halves of the plan are left out,
// then quarters, and so on, within a bounded time.
import type { Checker } from "./court.ts";
import { type Plan, planOf } from "./plan.ts";
import { type Run, simulate } from "./simulate.ts";

export interface Small {
  run: Run;
  text: string;
  /** How much is left of the plan. */
  steps: string;
}

export async function shrink(
  seed: number,
  found: Run,
  given: { forMs: number; alone?: Checker | undefined },
): Promise<Small> {
  const until = performance.now() + given.forMs;
  const plan = planOf(seed);
  const checker = found.findings[0]!.checker; // Only runs with a finding are shrunk.
  const stillFinds = async (ids: number[], smaller: Plan): Promise<boolean> => {
    const run = await simulate(seed, { keep: new Set(ids), plan: smaller, alone: given.alone });
    return run.findings[0]?.checker === checker;
  };
  let ids = plan.steps.map((step) => step.id);
  for (let size = Math.ceil(ids.length / 2); size >= 1 && performance.now() < until; ) {
    let dropped = false;
    for (let from = 0; from < ids.length && performance.now() < until; ) {
      const fewer = [...ids.slice(0, from), ...ids.slice(from + size)];
      if (await stillFinds(fewer, plan)) {
        ids = fewer;
        dropped = true;
      } else from += size;
    }
    if (size === 1 && !dropped) break;
    if (!dropped || size > ids.length) size = Math.max(1, Math.floor(size / 2));
  }
  let smaller = plan;
  for (let i = plan.proxies.length - 1; i >= 0 && performance.now() < until; i--) {
    const without = { ...smaller, proxies: smaller.proxies.filter((entry) => entry !== plan.proxies[i]) };
    if (without.proxies.length > 0 && (await stillFinds(ids, without))) smaller = without;
  }
  const run = await simulate(seed, { keep: new Set(ids), plan: smaller, transcript: true, alone: given.alone });
  return { run, text: String(run.transcript), steps: `${ids.length} of ${plan.steps.length} steps` };
}
