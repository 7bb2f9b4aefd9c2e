// A plot of rates as SVG, without a library: a panel per number of outstanding requests, a bar per row.
import { drawing } from "./plot.ts";
import { median, type Row } from "./report.ts";

const width = 760;
const left = 170;
const right = 80;
const rowHeight = 18;

export function barsOf(rows: readonly Row[]): string {
  const rates = rows.map((row) => ({ ...row, rate: median(row.runs.map((run) => run.perSecond)) }));
  const parts: string[] = [];
  let y = 46;
  for (const depth of [...new Set(rows.map((row) => row.depth))].sort((a, b) => a - b)) {
    const panel = rates.filter((row) => row.depth === depth);
    const most = Math.max(...panel.map(({ rate }) => rate), 1);
    parts.push(`<text x="${left}" y="${y}" font-weight="bold">${depth} outstanding</text>`);
    for (const [i, { name, rate }] of panel.entries()) {
      const top = y + 8 + i * rowHeight;
      const colour = /^(Redis|PostgreSQL|echo)/.test(name) ? "#9aa7b3" : "#b3261e";
      const long = (rate / most) * (width - left - right);
      parts.push(
        `<text x="${left - 8}" y="${top + 12}" text-anchor="end">${name}</text>`,
        `<rect x="${left}" y="${top + 2}" width="${long.toFixed(1)}" height="${rowHeight - 5}" fill="${colour}"/>`,
        `<text x="${(left + long + 6).toFixed(1)}" y="${top + 12}">${rate.toFixed(0)}</text>`,
      );
    }
    y += 8 + panel.length * rowHeight + 30;
  }
  const title = "Leases, cycles and uses a second, median of the rounds";
  return drawing(title, parts, { width, height: y, left });
}
