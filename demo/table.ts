// The results as a table for people.
import type { ContenderResult } from "./contender.ts";
import type { PickingKind } from "./picking.ts";

export const names: Readonly<Record<PickingKind, string>> = {
  "round-robin": "plain round-robin",
  counters: "a counter in each process",
  redis: "Redis, fixed window, counted at grant",
  remuda: "Remuda, killed with -9 in the middle",
};

/** @param possible requests that the limits allow in the time. */
export function tableOf(results: readonly ContenderResult[], possible: number): string {
  const rows = results.map((each) => {
    const waits = each.waitsMs.toSorted((a, b) => a - b);
    const maxima = [...each.maxima.values()];
    return [
      names[each.kind],
      `${each.served} (${percent(each.served, possible)})`,
      String(each.bans),
      maxima.length === 0 ? "–" : `${Math.min(...maxima)} to ${Math.max(...maxima)}`,
      `${seconds(at(waits, 0.5))}, ${seconds(at(waits, 0.95))}`,
    ];
  });
  return aligned([["picking", "served", "bans", "most requests in a window", "wait, median and 95 %"], ...rows]);
}

export const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(1)} %`;

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

const seconds = (ms: number): string => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

function aligned(rows: readonly string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [line(rows[0] ?? []), rule, ...rows.slice(1).map(line)].join("\n");
}
