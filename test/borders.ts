// The borders between folders: which folder may import which, what the pure core must not name, and no import cycles.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

interface Border {
  folders: string[];
  packages: RegExp;
}

const anything = /./;

const core = ["events", "protocol", "lists", "state-machines"];
const services = [...core, "runtime", "transport", "client", "services"];

/** As docs/architecture.md draws them. A folder may import itself. "." is the root of the repository. */
const borders: Record<string, Border> = {
  events: { folders: [], packages: /^zod$/ },
  protocol: { folders: ["events"], packages: /^zod$/ },
  lists: { folders: ["events", "protocol"], packages: /^zod$/ },
  "state-machines": { folders: ["events", "protocol"], packages: /^(xstate|d3-random)$/ },
  runtime: { folders: [], packages: /^(node:|@nats-io\/|(bcryptjs|pino)$)/ },
  transport: { folders: ["events", "protocol"], packages: anything },
  client: { folders: ["events", "protocol", "transport"], packages: anything },
  services: { folders: services, packages: anything },
  compose: { folders: ["runtime"], packages: anything },
  demo: { folders: ["client"], packages: anything },
  cli: { folders: [...services, "demo"], packages: anything },
  bench: { folders: [...services, "cli", "demo"], packages: anything },
  test: { folders: [...services, "demo", "cli", "bench"], packages: anything },
  ".": { folders: [], packages: /^(node:|vitest\/)/ },
};

/** The shell knows the envelope of a commit, and no event. */
const alsoAllowed: Record<string, string[]> = { runtime: ["events/commit.ts"] };

/** In the pure core: clocks, chance, and facts that differ between machines. */
const impure =
  /\b(Date|Math\.(random|sin|cos|tan|exp|log|log2|log10|pow|sqrt|cbrt)|process|Buffer|setTimeout|setInterval|crypto|performance)\b/;

/** The text of every TypeScript file, by its path relative to the root. */
export type Sources = Readonly<Record<string, string>>;

/** Every breach, as a sentence. Empty: all is well. @param root of the project, with a trailing slash. */
export function borderBreaches(root: string): string[] {
  const sources = readSources(root);
  const breaches = Object.entries(sources).flatMap(([file, source]) => breachesIn(source, file));
  for (const cycle of importCycles(sources)) breaches.push(`import cycle: ${[...cycle, cycle[0]].join(" -> ")}`);
  return breaches;
}

/** All TypeScript files but those of packages and builds. */
export function readSources(root: string): Sources {
  const files = globSync("**/*.ts", { cwd: root, exclude: ["**/node_modules/**", "**/dist/**"] });
  return Object.fromEntries(files.sort().map((file) => [file, readFileSync(join(root, file), "utf8")]));
}

/** @param file relative to the root. */
export function breachesIn(source: string, file: string): string[] {
  const folder = folderOf(file);
  const border = borders[folder];
  if (border === undefined) return [`${file}: the folder ${folder} has no border in test/borders.ts`];
  const breaches: string[] = [];
  for (const specifier of importsOf(source)) {
    if (specifier.startsWith(".")) {
      const target = normalize(join(dirname(file), specifier));
      const into = folderOf(target);
      const sibling = folder === "services" && into === "services" && target.split("/")[1] !== file.split("/")[1];
      const allowed = into === folder || border.folders.includes(into) || (alsoAllowed[folder] ?? []).includes(target);
      if (!allowed || sibling) breaches.push(`${file}: must not import ${target}`);
    } else if (!border.packages.test(specifier)) breaches.push(`${file}: must not import the package ${specifier}`);
  }
  if (core.includes(folder)) {
    for (const [index, line] of source.split("\n").entries()) {
      const code = line.replace(/\/\/.*$|^\s*\*.*$|^\s*\/\*\*.*$/, "").replace(/"[^"]*"|`[^`]*`/g, '""');
      const found = impure.exec(code);
      if (found !== null) breaches.push(`${file}:${index + 1}: the pure core must not name ${found[0]}`);
    }
  }
  return breaches;
}

/**
 * One cycle for each group of files that import each other: the shortest through the group's first file, each file
 * once, in the order of the imports. An `import type` and an `import()` count like any other import, because a reader
 * follows them all the same.
 */
export function importCycles(sources: Sources): string[][] {
  const targets = targetsIn(sources);
  const cycles: string[][] = [];
  const told = new Set<string>();
  for (const file of targets.keys()) {
    const cycle = told.has(file) ? undefined : shortestCycle(file, targets);
    if (cycle === undefined) continue;
    cycles.push(cycle);
    const after = reachable(file, targets);
    for (const other of after) if (reachable(other, targets).has(file)) told.add(other);
  }
  return cycles;
}

/** For any of the files: all files that it imports, directly or through others. */
export function importsIn(sources: Sources): (file: string) => ReadonlySet<string> {
  const targets = targetsIn(sources);
  return (file) => reachable(file, targets);
}

/**
 * The packages that are loaded together with these files, before anything is called: `import()` and types load none.
 */
export function packagesWith(sources: Sources, files: readonly string[]): ReadonlySet<string> {
  const packages = new Set<string>();
  const loaded = new Set(files);
  for (const file of loaded) {
    for (const [, specifier = ""] of (sources[file] ?? "").matchAll(loading)) {
      if (specifier.startsWith(".")) loaded.add(normalize(join(dirname(file), specifier)));
      else packages.add(specifier);
    }
  }
  return packages;
}

/** These files, and all that load one of them, directly or through others. */
export function loadersOf(sources: Sources, files: readonly string[]): ReadonlySet<string> {
  const loaders = new Map<string, string[]>();
  for (const [file, source] of Object.entries(sources)) {
    for (const [, specifier = ""] of source.matchAll(loading)) {
      const target = normalize(join(dirname(file), specifier));
      loaders.set(target, [...(loaders.get(target) ?? []), file]);
    }
  }
  const found = new Set(files);
  for (const file of found) for (const loader of loaders.get(file) ?? []) found.add(loader);
  return found;
}

const loading = /^(?:import|export)\b(?!\s+type\b)(?:[^;"]*?\bfrom)?\s+"([^"]+)"/gm;

type Targets = ReadonlyMap<string, readonly string[]>;

function targetsIn(sources: Sources): Targets {
  const targets = Object.entries(sources).map(([file, source]): [string, string[]] => {
    const imported = importsOf(source).map((specifier) => normalize(join(dirname(file), specifier)));
    return [file, imported.filter((target) => target in sources)];
  });
  return new Map(targets);
}

function shortestCycle(file: string, targets: Targets): string[] | undefined {
  const cameFrom = new Map<string, string>();
  const queue = [file];
  for (const at of queue) {
    for (const target of targets.get(at) ?? []) {
      if (target === file) {
        const path = [at];
        while (path[0] !== file) path.unshift(cameFrom.get(path[0] ?? file) ?? file);
        return path;
      }
      if (cameFrom.has(target)) continue;
      cameFrom.set(target, at);
      queue.push(target);
    }
  }
  return undefined;
}

function reachable(file: string, targets: Targets): Set<string> {
  const found = new Set(targets.get(file));
  for (const at of found) for (const target of targets.get(at) ?? []) found.add(target);
  return found;
}

function importsOf(source: string): string[] {
  const matches = source.matchAll(/^(?:import|export)\b(?:[^;"]*?\bfrom)?\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm);
  return [...matches].map(([, named, dynamic]) => named ?? dynamic ?? "");
}

function folderOf(file: string): string {
  return file.includes("/") ? (file.split("/")[0] ?? "") : ".";
}
