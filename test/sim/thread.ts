// A thread of the simulator: loads the service, with a planted fault if one is given, and runs its seeds.
import { parentPort, workerData } from "node:worker_threads";
import type { Checker } from "./court.ts";
import { breakOnLoad, faultNamed } from "./faults.ts";
import type { Run } from "./simulate.ts";

export interface Order {
  seed: number;
  /** The time for shrinking a finding, ms. */
  shrinkMs: number;
}
export type Told = Omit<Run, "transcript"> & { transcript: string | undefined; steps: string | undefined };

const { fault, alone } = workerData as { fault: string | undefined; alone: Checker | undefined };
breakOnLoad(fault === undefined ? undefined : faultNamed(fault));
const { simulate } = await import("./simulate.ts");
const { shrink } = await import("./shrink.ts");

parentPort!.on("message", async ({ seed, shrinkMs }: Order) => {
  const run = await simulate(seed, { alone });
  const small =
    run.findings.length > 0 && shrinkMs > 0 ? await shrink(seed, run, { forMs: shrinkMs, alone }) : undefined;
  const findings = small?.run.findings ?? run.findings;
  const told: Told = { seed, findings, seen: run.seen, transcript: small?.text, steps: small?.steps };
  parentPort!.postMessage(told);
});
