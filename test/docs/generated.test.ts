// The parts of the docs that are generated from the code, and every link between the pages.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { generate, pagesOf, staleDocs } from "./generated.ts";
import { anchorsOf, linksOf } from "./markdown.ts";

const root = new URL("../..", import.meta.url).pathname;
const texts = new Map(["README.md", ...pagesOf(root)].map((file) => [file, readFileSync(join(root, file), "utf8")]));

test("the generated parts match the code (npm run docs writes them)", () => {
  expect(staleDocs(root)).toEqual([]);
});

test("rewrites a part that was changed manually, and nothing else", () => {
  const text = "before\n<!-- generated: refusals -->\n\n| 1 |\n\n<!-- /generated -->\nafter\n";
  const made = generate(text);
  expect(made).toMatch(
    /^before\n<!-- generated: refusals -->\n\n\| code \| number \| reason \|\n[\s\S]*`pool-exhausted` \| 429[\s\S]*-->\nafter\n$/,
  );
  expect(generate(made)).toBe(made);
});

test("names a part that has no generator in its error", () => {
  expect(() => generate("<!-- generated: horses -->\n<!-- /generated -->")).toThrow(/horses.*policy, defaults/);
});

test("the reference for operators lists every metric, and no other", () => {
  const named = (...files: string[]): string[] => {
    const text = files.map((file) => readFileSync(join(root, file), "utf8")).join("\n");
    return [...new Set(text.match(/\bremuda_[a-z_]+\b/g))].sort();
  };
  const known = named("services/api/health.ts", "services/api/pool-metrics.ts", "services/gateway/metrics.ts");
  expect(known.length).toBeGreaterThan(20);
  expect(named("docs/operating-reference.md")).toEqual(known);
  // The containers' volumes and Python's packages have similar names.
  const others = ["docs/compose.md", "docs/python.md", "docs/scrapy.md"];
  const pages = pagesOf(root).filter((page) => !others.includes(page));
  for (const name of named(...pages)) expect(known).toContain(name);
});

/** Broken links of this page. */
function broken(file: string, text: string): string[] {
  return linksOf(text).flatMap(({ target, line }) => {
    if (/^[a-z]+:/.test(target)) return []; // An external page.
    const [path = "", anchor] = target.split("#");
    const to = path === "" ? file : normalize(join(dirname(file), path));
    const place = `${file}:${line}: ${target}`;
    if (!existsSync(join(root, to))) return [`${place}: no such file`];
    if (anchor === undefined) return [];
    return anchorsOf(texts.get(to) ?? readFileSync(join(root, to), "utf8")).has(anchor)
      ? []
      : [`${place}: no such heading`];
  });
}

describe("links", () => {
  test.each([...texts])("of %s lead to existing files and headings", (file, text) => {
    expect(broken(file, text)).toEqual([]);
  });

  test.each([...texts].filter(([file]) => file !== "docs/glossary.md"))(
    "of %s lead to the glossary once",
    (file, text) => {
      const glossary = linksOf(text).filter(
        ({ target }) => normalize(join(dirname(file), target)) === "docs/glossary.md",
      );
      expect(glossary).toHaveLength(1);
    },
  );

  test("finds broken links, and ignores links in code", () => {
    const text =
      "[x](#strategies) [x](#c) [x](nowhere.md) `[x](code.md)`\n```\n[x](block.md)\n```\n![x](policy.md#nothing)";
    expect(broken("docs/rules/strategies.md", text.replaceAll("policy.md", "../policy.md"))).toEqual([
      "docs/rules/strategies.md:1: #c: no such heading",
      "docs/rules/strategies.md:1: nowhere.md: no such file",
      "docs/rules/strategies.md:5: ../policy.md#nothing: no such heading",
    ]);
    expect(anchorsOf("# A b\n## `Code`, and (more)\n## A b\n```\n# none\n```")).toEqual(
      new Set(["a-b", "code-and-more", "a-b-1"]),
    );
  });
});
