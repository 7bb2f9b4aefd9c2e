// Writes the figures of `npm run bench -- all` as Markdown. It has no effects. Each target stands beside its figure, and
// whether it is met is computed here.

export interface Run {
  count: number;
  perSecond: number;
  /** ms */
  p50?: number;
  p99?: number;
  mean?: number;
  /** µs of each process for each unit. */
  cpu: Record<string, number>;
  /** Of the ledger for each unit. */
  bytes?: number;
}

export interface Row {
  name: string;
  depth: number;
  runs: Run[];
}

export interface Figures {
  machine: readonly string[];
  command: string;
  date: string;
  rows: readonly Row[];
  fsyncMs: number;
  /** What other benchmarks printed, by their arguments. */
  outputs: Record<string, string>;
  skipped: readonly string[];
}

interface Target {
  what: string;
  goal: number;
  isMost?: boolean;
  unit?: string;
  figure: number | undefined;
}

const begin = "<!-- measured: npm run bench -- all -->";
const end = "<!-- /measured -->";

/** The page with its measured part replaced. */
export function withFigures(page: string, text: string): string {
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`docs/performance.md: ${begin} … ${end} is missing. Put it back.`);
  return `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`;
}

export function reportOf(figures: Figures): string {
  const { machine, command, date, rows, fsyncMs, outputs, skipped } = figures;
  return [
    [`- command: \`${command}\``, `- date: ${date}`, ...machine.map((each) => `- ${each}`)].join("\n"),
    "### Targets",
    targetTable(targetsOf(figures)),
    "### Leases and their peers",
    rowTable(rows),
    [`- one measured fsync: ${shown(fsyncMs)} ms`, ...skipped.map((each) => `- left out: ${each}`)].join("\n"),
    ...Object.entries(outputs).flatMap(([args, text]) => [
      `### \`npm run bench -- ${args}\``,
      `\`\`\`text\n${text.trimEnd()}\n\`\`\``,
    ]),
  ].join("\n\n");
}

export function targetsOf({ rows, fsyncMs, outputs }: Figures): Target[] {
  const runs = (name: string, depth = 512): Run[] =>
    rows.find((row) => row.name === name && row.depth === depth)?.runs ?? [];
  // Of the same round, because the machine's speed changes between rounds.
  const ratio = (name: string, other: string, depth = 512, otherDepth = depth): number | undefined => {
    const others = runs(other, otherDepth);
    const ratios = runs(name, depth).flatMap((run, i) => (others[i] ? [run.perSecond / others[i].perSecond] : []));
    return ratios.length === 0 ? undefined : median(ratios);
  };
  const time = (which: "p50" | "p99", name: string, depth: number): number | undefined =>
    middle(runs(name, depth), which);
  const output = (args: string): string =>
    Object.entries(outputs).find(([each]) => `${each} `.startsWith(`${args} `))?.[1] ?? "";
  const read = (args: string, pattern: RegExp): number | undefined => {
    const found = pattern.exec(output(args))?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const [echo, p50, p99] = [time("p50", "echo", 1), time("p50", "lease", 64), time("p99", "lease", 64)];
  const single = time("p50", "lease", 1);
  const bytes = middle(runs("cycle"), "bytes");
  return [
    { what: "leases against the echo, 512 outstanding", goal: 0.6, figure: ratio("lease", "echo") },
    { what: "leases against Redis, AOF always", goal: 1, figure: ratio("lease", "Redis always, lease") },
    { what: "full cycles against the echo", goal: 0.45, figure: ratio("cycle", "echo") },
    { what: "full cycles against Redis, AOF always", goal: 1, figure: ratio("cycle", "Redis always, cycle") },
    { what: "leases with `count: 16` against Redis", goal: 3, figure: ratio("count 16", "Redis always, lease") },
    {
      what: "leases at 512 against PostgreSQL at 64 connections",
      goal: 8,
      figure: ratio("lease", "PostgreSQL, lease", 512, 64),
    },
    {
      what: "p50 of one lease at 1 outstanding: echo + 1.5 × fsync + 0.5 ms",
      ...{
        goal: (echo ?? 0) + 1.5 * fsyncMs + 0.5,
        isMost: true,
        unit: "ms",
        figure: echo === undefined ? undefined : single,
      },
    },
    {
      what: "p99 at 64 outstanding: 5 × p50",
      ...{ goal: 5 * (p50 ?? 0), isMost: true, unit: "ms", figure: p99 },
    },
    {
      what: "longest stall at 1M proxies: a lease of another pool during the import",
      ...{ goal: 50, isMost: true, unit: "ms", figure: read("million", /meanwhile .* at most ([\d.]+) ms/) },
    },
    { what: "uses of block leases against single cycles", goal: 5, figure: ratio("block, uses", "cycle") },
    {
      what: "`decide` + `evolve` + index per cycle, `round-robin` at 100 proxies",
      ...{ goal: 5, isMost: true, unit: "µs", figure: read("decide", /^round-robin +100 +([\d.]+)/m) },
    },
    {
      what: "throughput at 1M proxies against 100",
      ...{ goal: 0.95, figure: read("million", /median ratio: ([\d.]+) of the throughput/) },
    },
    {
      what: "CPU time per cycle at 1M proxies against 100",
      ...{ goal: 1 / 0.95, isMost: true, figure: read("million", /([\d.]+) of the CPU time/) },
    },
    {
      // A short ledger would measure the compiler.
      what: "verify, one core",
      ...{ goal: 500_000, unit: "events/s", figure: read("audit 1000000", /verify, round 2: .*?(\d+) a second/) },
    },
    {
      what: "heap per idle proxy at 1M, with two candidate indexes",
      ...{ goal: 600, isMost: true, unit: "bytes", figure: read("decide", /^round-robin +1000000 .* (\d+)$/m) },
    },
    {
      what: "ledger bytes per cycle, on the disk",
      ...{ goal: 400, isMost: true, unit: "bytes", figure: bytes },
    },
    { what: "50 busy pools, all together, against one", goal: 0.9, figure: ratio("cycle, 50 pools", "cycle") },
  ];
}

function targetTable(targets: readonly Target[]): string {
  const lines = targets.map(({ what, goal, isMost = false, unit = "", figure }) => {
    const met = figure === undefined ? "not measured" : (isMost ? figure <= goal : figure >= goal) ? "met" : "not met";
    const measured = figure === undefined ? "–" : `${shown(figure)} ${unit}`.trim();
    const wanted = `${isMost ? "≤" : "≥"} ${shown(goal)} ${unit}`.trim();
    return `| ${what} | ${wanted} | ${measured} | ${met} |`;
  });
  return ["| | target | measured | |", "|---|---|---|---|", ...lines].join("\n");
}

function rowTable(rows: readonly Row[]): string {
  const lines = rows
    .toSorted((a, b) => a.depth - b.depth)
    .map(({ name, depth, runs }) => {
      const each = runs.map((run) => run.perSecond.toFixed(0)).join(", ");
      const names = Object.keys(runs[0]?.cpu ?? {});
      const cpu = names.map((of) => `${of} ${shown(median(runs.map((run) => run.cpu[of] ?? 0)))}`).join(", ");
      const [p50, p99, mean] = [middle(runs, "p50"), middle(runs, "p99"), middle(runs, "mean")];
      const times = mean === undefined ? `${shown(p50 ?? 0)} | ${shown(p99 ?? 0)}` : `mean ${shown(mean)} | –`;
      return `| ${name} | ${depth} | ${shown(median(runs.map((run) => run.perSecond)))} | ${each} | ${times} | ${cpu} |`;
    });
  const head = "| row | outstanding | a second, median | each round | p50, ms | p99, ms | µs of CPU for each |";
  return [head, "|---|---|---|---|---|---|---|", ...lines].join("\n");
}

function middle(runs: readonly Run[], of: "p50" | "p99" | "mean" | "bytes"): number | undefined {
  const values = runs.flatMap((run) => run[of] ?? []);
  return values.length === 0 ? undefined : median(values);
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

function shown(value: number): string {
  return value.toFixed(value >= 100 ? 0 : 2);
}
