// A thread of the simulator: loads the service, with a planted fault if one is given, and runs its seeds.
import { parentPort } from "node:worker_threads";
import type { Checker } from "./court.ts";
import { breakOnLoad } from "./faults.ts";
import type { Run } from "./simulate.ts";

export interface Order {
  seed: number;
  /** The name of a planted fault. */
  fault: string | undefined;
  /** Ignore the findings of all other checkers. */
  alone: Checker | undefined;
  /** The time for shrinking a finding, ms. */
  shrinkMs: number;
}
export type Told = Omit<Run, "transcript"> & { transcript: string | undefined; steps: string | undefined };

breakOnLoad();

parentPort!.on("message", async ({ seed, fault, alone, shrinkMs }: Order) => {
  const version = fault === undefined ? "" : `?fault=${fault}`;
  const { simulate }: typeof import("./simulate.ts") = await import(`./simulate.ts${version}`);
  const { shrink }: typeof import("./shrink.ts") = await import(`./shrink.ts${version}`);
  const run = await simulate(seed, { alone });
  const small =
    run.findings.length > 0 && shrinkMs > 0 ? await shrink(seed, run, { forMs: shrinkMs, alone }) : undefined;
  const findings = small?.run.findings ?? run.findings;
  const told: Told = { seed, findings, seen: run.seen, transcript: small?.text, steps: small?.steps };
  parentPort!.postMessage(told);
});
