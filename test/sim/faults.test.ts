// A simulator that finds nothing proves something only if it finds each deliberate fault, and by the
// checker whose promise it breaks. The search begins at a seed that is known to be quick; docs/simulator.md has the
// honest figures from seed 1 on.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runSeeds } from "./crew.ts";
import { broken, faults } from "./faults.ts";
import type { Told } from "./thread.ts";

const seedsMax = 1000;

describe.concurrent("each deliberate fault is found, by the right checker", () => {
  for (const [name, fault] of Object.entries(faults)) {
    test(`${name}: ${fault.what}`, { timeout: 300_000 }, async () => {
      const told = await search(name, 0);
      expect([...(fault.by ?? []), "audit"]).toContain(told?.findings[0]?.checker);
    });
  }
});

test("a finding shrinks to a few steps and a transcript that ends with the broken promise", {
  timeout: 300_000,
}, async () => {
  const told = await search("concurrency-off-by-one", 15_000);
  const lines = told?.transcript?.split("\n") ?? [];
  expect(lines.at(-1)).toMatch(/FOUND +audit: .* concurrency: with .* \d leases of exit .* are open \(limit \d\)/);
  expect(lines.length).toBeLessThan(100);
  expect(told?.steps).toMatch(/^[1-9] of \d\d/);
});

test("each fault's pieces of source are there, once", () => {
  for (const fault of Object.values(faults)) {
    for (const { file } of fault.edits)
      broken(fault, file, readFileSync(new URL(`../../${file}`, import.meta.url), "utf8"));
  }
});

test("a fault whose piece of source is gone, or is there twice, says so", () => {
  const fault = faults["epoch-ignored"]!;
  const [edit] = fault.edits;
  expect(() => broken(fault, edit!.file, "nothing of it")).toThrow(/report\.ts: ".*" is there 0 times/);
  expect(() => broken(fault, edit!.file, edit!.find.repeat(2))).toThrow(/is there 2 times/);
});

async function search(fault: string, shrinkMs: number): Promise<Told | undefined> {
  let found: Told | undefined;
  const first = faults[fault]!.quick;
  const seeds = Array.from({ length: seedsMax }, (_, i) => first + i);
  const onRun = (told: Told): boolean => {
    if (told.findings.length > 0) found ??= told;
    return found === undefined;
  };
  await runSeeds({ seeds, threads: 1, fault, shrinkMs, onRun });
  return found;
}
