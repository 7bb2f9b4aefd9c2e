import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Each test file is in one part of the suite (CONTRIBUTING.md): in the first one that names it. */
const e2e = ["test/{chaos,compose,demo,e2e,examples,sim}/**/*.test.ts", "test/{audit,rules}/seeds/*.test.ts"];
const core = ["test/*.test.ts", "test/{audit,docs,lists,properties,rules}/**/*.test.ts"];

/** They share one service of each worker. In a project of their own, it does not idle while other files run. */
const protocol = "test/protocol/**/*.test.ts";

/** The parts of the suite in the order in which they run, because the first one has the longest files. */
const parts = ["e2e", "core", "wire", "wire-protocol"];

/**
 * The files that a part begins with: the longest ones, so that no worker is left alone with one of them at the end. Those
 * that measure the service under load begin beside files that mostly wait. The simulator, which needs both cores and no
 * real time, comes last.
 */
const first = [
  ...["chaos/chaos", "e2e/exactness", "demo/demo", "compose/run", "examples/recipes", "e2e/guest-token.test"],
  ...["examples/", "protocol/away"],
];
const last = "sim/";

function placeOf({ project, moduleId }: TestSpecification): number {
  const is = (name: string): boolean => moduleId.includes(`/test/${name}`);
  const place = is(last) ? first.length + 1 : first.findIndex(is);
  return parts.indexOf(project.name) * 100 + (place < 0 ? first.length : place);
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b));
  }
}

export default defineConfig({
  test: {
    // Never reached on purpose: a test stops waiting earlier, and names the condition that did not come true.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Real brokers and real processes: more than two files at once make a 2-core machine miss its own deadlines. Three
    // were tried twice. They took no less time, because each worker has services of its own.
    maxWorkers: 2,
    // Within a file, too: each of the tests that run at the same time has a thread of its own.
    maxConcurrency: 2,
    // The files of a worker share its modules, its services and the thread of its commands: loading the modules anew
    // takes a second and a half of a core for each file, and starting a service takes more than two.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    reporters: ["default"],
    // Hundreds of commands are started: V8 keeps their compiled code, as `npx remuda` does.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url)) },
    projects: [
      { extends: true, test: { name: "core", include: core, exclude: e2e } },
      { extends: true, test: { name: "wire", include: ["test/**/*.test.ts"], exclude: [...core, ...e2e, protocol] } },
      { extends: true, test: { name: "wire-protocol", include: [protocol] } },
      { extends: true, test: { name: "e2e", include: e2e } },
    ],
  },
});
