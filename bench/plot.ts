// A plot of ranges as SVG, without a library: one panel per scenario, one row per strategy, a line from the 5th to the
// 95th percentile, and a dot at the median.

interface Panel {
  name: string;
  rows: readonly { strategy: string; p5: number; median: number; p95: number }[];
}

const width = 760;
const left = 110;
const right = 30;
const rowHeight = 18;
const panelGap = 38;
const colours: Record<string, string> = { bandit: "#b3261e" };

export function plotOf(panels: readonly Panel[], seeds: number): string {
  const parts: string[] = [];
  let y = 46;
  const x = (share: number): string => (left + share * (width - left - right)).toFixed(1);
  for (const { name, rows } of panels) {
    parts.push(`<text x="${left}" y="${y}" font-weight="bold">${name}</text>`);
    const bottom = y + 8 + rows.length * rowHeight;
    for (let tenth = 0; tenth <= 10; tenth += 2) {
      const at = x(tenth / 10);
      parts.push(`<line x1="${at}" y1="${y + 8}" x2="${at}" y2="${bottom}" stroke="#ddd"/>`);
      parts.push(`<text x="${at}" y="${bottom + 12}" text-anchor="middle" fill="#777">${tenth * 10} %</text>`);
    }
    for (const [i, { strategy, p5, median, p95 }] of rows.entries()) {
      const middle = y + 8 + (i + 0.5) * rowHeight;
      const colour = colours[strategy] ?? "#49617a";
      parts.push(
        `<text x="${left - 8}" y="${middle + 4}" text-anchor="end">${strategy}</text>`,
        `<line x1="${x(p5)}" y1="${middle}" x2="${x(p95)}" y2="${middle}" stroke="${colour}" stroke-width="5" stroke-opacity="0.45"/>`,
        `<circle cx="${x(median)}" cy="${middle}" r="4.5" fill="${colour}"/>`,
      );
    }
    y = bottom + panelGap;
  }
  const title = `Share of leases that succeeded, ${seeds} seeds: median, 5th to 95th percentile`;
  return drawing(title, parts, { width, height: y, left });
}

/** A whole SVG file. @param parts its elements. @param size.left where the title begins. All lengths are in pixels. */
export function drawing(
  title: string,
  parts: readonly string[],
  { width, height, left }: { width: number; height: number; left: number },
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${left}" y="22" font-size="14">${title}</text>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}
