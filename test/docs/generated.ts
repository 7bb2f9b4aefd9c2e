// The parts of the docs that are generated from the code: the text between `<!-- generated: <part> … -->` and `<!--
// /generated -->`. `npm run docs` writes them. The check fails if the present text differs from the generated one.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { actors, chartTable, diagramOf, laws } from "./chart.ts";
import { classificationFile, classificationText } from "./classification.ts";
import { defaultsOf, policyTable } from "./policy-table.ts";
import { routeTable } from "./route-table.ts";
import { columnList, eventList, limitTable, poolMetrics, refusalTable } from "./words.ts";

const parts: Record<string, (words: string[]) => string> = {
  policy: () => policyTable(),
  defaults: (fields) => defaultsOf(fields),
  diagram: ([machine = ""]) => diagramOf(machine),
  chart: ([machine = ""]) => chartTable(machine),
  refusals: () => refusalTable(),
  limits: () => limitTable(),
  events: () => eventList(),
  columns: () => columnList(),
  "pool-metrics": () => poolMetrics(),
  routes: () => routeTable(),
};

/** Parts that must exist somewhere. Otherwise a page could lose one unnoticed. */
const wanted = [
  "policy",
  "refusals",
  "limits",
  "events",
  "columns",
  "pool-metrics",
  ...Object.keys(laws).flatMap((machine) => [`diagram ${machine}`, `chart ${machine}`]),
  ...Object.keys(actors).map((machine) => `diagram ${machine}`),
  "routes",
];

const marked = /^<!-- generated: (.+) -->\n[\s\S]*?^<!-- \/generated -->$/gm;

export function generate(text: string): string {
  return text.replaceAll(marked, (_all, named: string) => {
    const [part = "", ...words] = named.split(" ");
    const make = parts[part];
    if (make === undefined)
      throw new Error(`no part of the docs is called ${part}; there are ${Object.keys(parts).join(", ")}`);
    return `<!-- generated: ${named} -->\n\n${make(words)}\n\n<!-- /generated -->`;
  });
}

/**
 * Sentences about differences from the code; empty if there are none. @param root of the project, with a trailing
 * slash.
 */
export function staleDocs(root: string): string[] {
  const texts = pagesOf(root).map((file) => ({ file, text: readFileSync(join(root, file), "utf8") }));
  const stale = texts.filter(({ text }) => generate(text) !== text);
  const there = new Set(texts.flatMap(({ text }) => [...text.matchAll(marked)].map(([, named]) => named)));
  const classification = readFileSync(join(root, classificationFile), "utf8");
  if (classification !== classificationText(root)) stale.push({ file: classificationFile, text: classification });
  return [
    ...stale.map(({ file }) => `${file}: differs from the code. Run: npm run docs`),
    ...wanted.filter((part) => !there.has(part)).map((part) => `docs: no page has <!-- generated: ${part} -->`),
  ];
}

/** Returns the files that have changed. */
export function writeDocs(root: string): string[] {
  return [...pagesOf(root), classificationFile].filter((file) => {
    const text = readFileSync(join(root, file), "utf8");
    const made = file === classificationFile ? classificationText(root) : generate(text);
    if (made !== text) writeFileSync(join(root, file), made);
    return made !== text;
  });
}

export function pagesOf(root: string): string[] {
  const names = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)
    .sort();
}
