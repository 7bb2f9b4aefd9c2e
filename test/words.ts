// The guard of plain words (docs/glossary.md): names that the glossary has retired, and lines of pages that are too
// long.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Each retired word or phrase, and the term to use. */
const retired: readonly [word: RegExp, term: string][] = [
  [/\bwish(es|ed)?\b/i, "lease request"],
  [/\bstints?\b/i, "usage quota"],
  [/\bportraits?\b/i, "snapshot"],
  [/\baskers?\b/i, "token waiter"],
  [/\burns?\b/i, "weighted sampler"],
  [/\bcomplaints?\b/i, "error message"],
  [/\bherds?\b/i, "proxies of a pool"],
  [/\bwithdrawn?\b/i, "cancel"],
  [/\b(take|taken|taking) up\b/i, "ingest"],
  [/\bby hand\b/i, "manually"],
  [/\bjudg(e|ed|es|ing|ement)\b/i, "check"],
  [/\b(nobody|whoever)\b/i, "the client, proxy or leader by its name"],
  [/\b(that|which|it|one) is none\b/i, "the expected form"],
  [/(?:\/\/|\/\*\*|[.;]) Who\b/, "the client, proxy or leader by its name"],
];
const charsMax = 120;

/** They name the words on purpose. */
const exempt = ["docs/glossary.md", "test/words.ts", "test/words.test.ts"];

/** The findings, as sentences. Empty: all is well. @param root of the project, with a trailing slash. */
export function wordFindings(root: string): string[] {
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "*.ts", "*.md"], { cwd: root });
  return files
    .toString()
    .trim()
    .split("\n")
    .filter((file) => !exempt.includes(file))
    .flatMap((file) => findingsIn(readFileSync(root + file, "utf8"), file));
}

/** @param file relative to the root. */
export function findingsIn(text: string, file: string): string[] {
  const isPage = file.endsWith(".md");
  let isCode = false;
  return text.split("\n").flatMap((line, index) => {
    const where = `${file}:${index + 1}`;
    if (isPage && line.trimStart().startsWith("```")) isCode = !isCode;
    const found = retired
      .filter(([word]) => word.test(line))
      .map(([word, term]) => `${where}: "${word.exec(line)?.[0]}" is retired; say ${term}`);
    // A row of a table cannot be wrapped, nor can a line of code or a link.
    const isProse = isPage && !isCode && !line.trimStart().startsWith("|") && /\s\S/.test(line.slice(charsMax - 40));
    if (isProse && line.length > charsMax)
      found.push(`${where}: has ${line.length} characters; wrap pages at ${charsMax}`);
    return found;
  });
}
