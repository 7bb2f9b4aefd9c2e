// The command of the simulator.
//
//   npm run sim -- --seeds 10000            on all cores; prints each finding, and how to run its seed again
//   npm run sim -- --seed 42                one run; --transcript prints all of it; --lines n limits a shrunk one
//   npm run sim -- --break all --count --seeds 100      counts the seeds of 100 that find each fault
//   npm run sim -- --break all --audit      only findings of the audit's checker, which reads only the ledger
//   npm run sim -- --break no-grace         with a planted fault, until a seed finds it; `all`: each fault in turn
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { missingIn, seedsForCoverage } from "./coverage.ts";
import { runSeeds } from "./crew.ts";
import { breakOnLoad, faultNamed, faults } from "./faults.ts";
import type { Told } from "./thread.ts";

const shrinkMs = 20_000;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "300" },
    first: { type: "string", default: "1" },
    seed: { type: "string" },
    threads: { type: "string", default: String(availableParallelism()) },
    break: { type: "string" },
    transcript: { type: "boolean", default: false },
    lines: { type: "string", default: "120" },
    count: { type: "boolean", default: false },
    audit: { type: "boolean", default: false },
    "no-shrink": { type: "boolean", default: false },
  },
});
const first = Number(values.seed ?? values.first);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const linesMax = Number(values.lines);
const threads = Math.min(count, Number(values.threads));
if (![first, count, threads, linesMax].every((each) => Number.isSafeInteger(each) && each > 0)) {
  console.error("--seeds, --first, --seed, --threads and --lines are whole numbers of at least 1");
  process.exit(2);
}

if (values.transcript) {
  breakOnLoad();
  const { simulate } = await import("./simulate.ts");
  console.log(String((await simulate(first, { transcript: true })).transcript));
} else if (values.break !== undefined) await breakIt(values.break);
else await search();

async function search(): Promise<void> {
  const seen = new Map<string, number>();
  const began = performance.now();
  let [runs, found] = [0, 0];
  await runSeeds({
    seeds: seedsFrom(first, count),
    threads,
    shrinkMs: values["no-shrink"] ? 0 : shrinkMs,
    onRun(told) {
      runs++;
      for (const [what, times] of Object.entries(told.seen)) seen.set(what, (seen.get(what) ?? 0) + times);
      progress(`${runs} of ${count} seeds, ${found} with findings, ${seen.get("grants") ?? 0} grants`);
      if (told.findings.length > 0) tell(told, ++found);
      return found < 10;
    },
  });
  progress("");
  for (const [what, times] of [...seen].sort(([a], [b]) => (a < b ? -1 : 1)))
    console.log(`${String(times).padStart(9)}  ${what}`);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(
    `${runs} seeds in ${seconds} s on ${threads} threads: ${found === 0 ? "nothing found" : `${found} with findings`}`,
  );
  const missing = runs < seedsForCoverage ? [] : missingIn(seen);
  if (missing.length > 0) console.log(`never happened, so not tested: ${missing.join(", ")}`);
  process.exitCode = found === 0 && missing.length === 0 ? 0 : 1;
}

async function breakIt(which: string): Promise<void> {
  const names = which === "all" ? Object.keys(faults) : [which];
  const most = values.seeds === "300" ? 1000 : count;
  let missed = 0;
  for (const name of names) {
    const { by = [], what } = faultNamed(name);
    const found: Told[] = [];
    let runs = 0;
    const every = values.transcript || which !== "all";
    await runSeeds({
      seeds: seedsFrom(first, most),
      threads: Number(values.threads),
      fault: name,
      alone: values.audit ? "audit" : undefined,
      shrinkMs: every && !values["no-shrink"] ? shrinkMs : 0,
      onRun(told) {
        runs++;
        if (told.findings.length > 0) found.push(told);
        progress(`${name}: ${runs} of ${most} seeds, found in ${found.length}`);
        return values.count || found.length === 0;
      },
    });
    progress("");
    found.sort((a, b) => a.seed - b.seed);
    const [one] = found;
    const checker = one?.findings[0]?.checker;
    if (values.count) console.log(`${name}: found in ${found.length} of ${runs} seeds`);
    const right = checker === "audit" || by.some((each) => each === checker);
    if (!right) missed++;
    console.log(
      `${name.padEnd(32)} ${one === undefined ? `NOT FOUND in ${runs} seeds` : `seed ${one.seed}, by ${checker}${right ? "" : ` (NOT ${[...by, "audit"].join(" or ")})`}`} — ${what}`,
    );
    if (one !== undefined && every) tell(one, 1);
  }
  process.exitCode = missed === 0 ? 0 : 1;
}

function tell(told: Told, nth: number): void {
  progress("");
  const [finding] = told.findings;
  console.log(`seed ${told.seed}: ${finding?.checker}: ${finding?.sentence}`);
  if (nth === 1 && told.transcript !== undefined) {
    const lines = told.transcript.split("\n");
    console.log(`  shrunk to ${told.steps}; ms since the start, who, what:`);
    if (lines.length > linesMax) console.log(`  … ${lines.length - linesMax} lines before`);
    for (const line of lines.slice(-linesMax)) console.log(`  ${line.slice(0, 240)}`);
  }
  const fault = values.break === undefined ? "" : ` --break ${values.break}`;
  console.log(`  again: npm run sim -- --seed ${told.seed}${fault}`);
}

function progress(line: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
}

function* seedsFrom(from: number, many: number): Generator<number> {
  for (let seed = from; seed < from + many; seed++) yield seed;
}
