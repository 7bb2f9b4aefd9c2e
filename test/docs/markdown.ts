// Markdown, as far as our docs need it: reads and writes tables, reads code blocks and headings.

export function showTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(header), `|${header.map(() => "---").join("|")}|`, ...rows.map(line)].join("\n");
}

export function code(text: string): string {
  return `\`${text}\``;
}

export interface Section {
  heading: string;
  /** The lines below the heading, up to the next heading of any level. */
  lines: { text: string; number: number }[];
}

/** The first section is the text before any heading. Lines in a code block are never headings. */
export function sectionsOf(text: string): Section[] {
  const sections: Section[] = [{ heading: "", lines: [] }];
  let fenced = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (line.startsWith("```")) fenced = !fenced;
    const heading = fenced ? undefined : /^#{1,6} +(.*?) *$/.exec(line)?.[1];
    if (heading === undefined)
      sections.at(-1)!.lines.push({ text: line, number: index + 1 }); // The first section always exists.
    else sections.push({ heading, lines: [] });
  }
  return sections;
}

/** GitHub's anchor for a heading (the part of a link after `#`). The second heading with the same words gets `-1`. */
export function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const { heading } of sectionsOf(text).slice(1)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = words.replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    let name = anchor;
    for (let n = 1; anchors.has(name); n++) name = `${anchor}-${n}`;
    anchors.add(name);
  }
  return anchors;
}

/** Targets of links and images outside code. */
export function linksOf(text: string): { target: string; line: number }[] {
  const links: { target: string; line: number }[] = [];
  let fenced = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (line.startsWith("```")) fenced = !fenced;
    if (fenced) continue;
    const prose = line.replaceAll(/`[^`]*`/g, "code");
    for (const [, target = ""] of prose.matchAll(/\]\(([^)\s]+)\)/g)) links.push({ target, line: index + 1 });
    for (const [, target = ""] of prose.matchAll(/^\[[^\]]+\]: +(\S+)/g)) links.push({ target, line: index + 1 });
  }
  return links;
}
