// The promises hold while processes, connections, streams and clocks fail. run.ts explains the run, and is the command
// for longer ones.
import { expect, test } from "vitest";
import { runChaos } from "./run.ts";

/** Each kind of fault comes, and few processes start, because their starts cost the most. */
const seed = 92374;

test("a minute of faults breaks no limit, loses no acknowledged lease, grants none twice, and the service recovers", async () => {
  const { findings, faults, said } = await runChaos({ seconds: 60, seed, patience: 3, say: console.log });
  if (findings.length > 0) console.error(said);
  expect(findings).toEqual([]);
  expect(faults).toBeGreaterThan(0);
}, 600_000);
