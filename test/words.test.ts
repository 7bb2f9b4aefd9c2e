// The guard of plain words finds a planted sentence, and leaves alone lines that cannot be wrapped.
import { expect, test } from "vitest";
import { findingsIn } from "./words.ts";

test.each([
  ["a.ts", "// The wish waits.", '"wish" is retired; say lease request'],
  ["docs/a.md", "A proxy rests after its stint of uses.", '"stint" is retired; say usage quota'],
  ["a.ts", "// Nobody gets a lease.", '"Nobody" is retired; say the client, proxy or leader by its name'],
  ["a.ts", "/** Who waits is served. */", '"/** Who" is retired; say the client, proxy or leader by its name'],
  ["a.ts", "// A pool's name that is none.", '"that is none" is retired; say the expected form'],
  ["docs/a.md", "Retire it by hand.", '"by hand" is retired; say manually'],
  ["docs/a.md", `${"long ".repeat(25)}words`, "has 130 characters; wrap pages at 120"],
])("finds in %s: %s", (file, text, finding) => {
  expect(findingsIn(`fine\n${text}`, file)).toEqual([`${file}:2: ${finding}`]);
});

test("finds nothing in plain words, in rows of tables and in code", () => {
  expect(findingsIn("A lease request waits for a proxy.", "docs/a.md")).toEqual([]);
  expect(findingsIn(`| ${"long ".repeat(25)}row |`, "docs/a.md")).toEqual([]);
  expect(findingsIn(`\`\`\`sh\n${"long ".repeat(25)}command\n\`\`\``, "docs/a.md")).toEqual([]);
  expect(findingsIn(`const text = "${"long ".repeat(25)}";`, "a.ts")).toEqual([]);
});
