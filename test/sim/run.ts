// The simulator by hand: `npm run sim -- --seeds 1000 [--first 1]`. Prints what it found, with the seed.
import { parseArgs } from "node:util";
import { simulate } from "./simulate.ts";

const { values } = parseArgs({
  options: { seeds: { type: "string", default: "300" }, first: { type: "string", default: "1" } },
});
const first = Number(values.first);
const total = {
  leases: 0,
  arrivals: 0,
  kills: 0,
  takeovers: 0,
  commits: 0,
  events: 0,
  silences: 0,
  refusals: 0,
  atLimit: 0,
};
let found = 0;
for (let seed = first; seed < first + Number(values.seeds); seed++) {
  const result = await simulate(seed);
  for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += result[key];
  if (result.findings.length === 0) continue;
  found++;
  console.log(`seed ${seed}: ${result.findings.slice(0, 3).join("\n  ")}`);
}
console.log(`${values.seeds} seeds, ${found} with findings; ${JSON.stringify(total)}`);
process.exitCode = found === 0 ? 0 : 1;
