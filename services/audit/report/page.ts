// The page of a report: one file that needs no network. It has no scripts and no fonts, and its images are inline SVG.
import { restReasons } from "../../../events/proxy.ts";
import { counted, countNames } from "../../../runtime/text.ts";
import { escaped, type Layer, shares, stacked, timeOf } from "./chart.ts";
import type { Counts, Gathered, Point } from "./gather.ts";

const colours: Record<string, string> = {
  available: "#58a55c",
  "in-use": "#2e86c1",
  cooling: "#e0a526",
  exhausted: "#ca6f1e",
  retired: "#b3b6b7",
  success: "#58a55c",
  throttled: "#e0a526",
  blocked: "#c0392b",
  timeout: "#8e44ad",
  unreachable: "#5b2c6f",
  "proxy-auth": "#7b241c",
  "proxy-error": "#ca6f1e",
  "target-error": "#7f8c8d",
  "client-abort": "#b3b6b7",
  completed: "#58a55c",
  released: "#2e86c1",
  expired: "#c0392b",
  backoff: "#e0a526",
  throttle: "#ca6f1e",
  failures: "#c0392b",
  streak: "#8e44ad",
  usage: "#2e86c1",
  manual: "#7f8c8d",
};

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2833;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.1rem;margin:1.6rem 0 .2rem}svg{width:100%;height:auto}svg text{font-size:11px;fill:#566573}
table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{padding:.15rem .5rem;text-align:left;vertical-align:top}
.bar{width:40%}.bar div{height:.8rem}.legend{margin:.2rem 0;font-size:.85rem}.legend span{margin-right:.8rem}
.legend i{display:inline-block;width:.7rem;height:.7rem;margin-right:.3rem}code{word-break:break-all}.wrong{color:#c0392b}`;

export function pageOf(report: Gathered): string {
  const { points, peaks, totals, findings, commits, acts } = report;
  const at = points.map((point) => point.at);
  const title = `Audit of the pool ${report.pool}`;
  const layer = (name: string, value: (point: Point) => number): Layer => ({
    name,
    colour: colours[name] ?? "#34495e",
    values: points.map(value),
  });
  const states: Layer[] = (["in-use", "available", "cooling", "exhausted", "retired"] as const).map((name) =>
    layer(name, ({ states: each }) => each[name]),
  );
  const single = (
    heading: string,
    name: string,
    { step, of }: { step: boolean; of: (point: Point) => number },
  ): string => stacked(heading, [{ name, colour: "#2e86c1", values: points.map(of) }], { at, step });
  const bars = (heading: string, names: readonly string[], of: (point: Point) => Counts): string => {
    const layers = names.map((name) => layer(name, (point) => of(point)[name] ?? 0));
    return stacked(heading, layers, { at, step: false });
  };
  const each = `each column is ${spanOf(report.widthMs)}`;
  const body = [
    `<h1>${escaped(title)}</h1>`,
    `<p>${timeOf(report.from)} to ${timeOf(report.to)}; commits ${commits.first} to ${commits.last} (${commits.count}), ${report.events} events, from ${escaped(report.where)}; ${each}.</p>`,
    table([
      ["Leases granted", String(totals.granted)],
      ["Uses granted", String(totals.uses)],
      ["Leases ended", countNames(totals.ended)],
      ["Outcomes", countNames(totals.outcomes)],
      ["Rests", countNames(totals.rests)],
      ["Requests refused", countNames(totals.refused)],
      ["Administrative acts by user", countNames(acts.byUser)],
      ["Head (SHA-256 of the last commit)", report.head],
    ]),
    resultOf(findings),
    stacked("Proxies by state", states, { at, step: true }),
    single("Open leases", "open", { step: true, of: ({ openLeases }) => openLeases }),
    single("Leases granted", "granted", { step: false, of: ({ granted }) => granted }),
    bars("Leases by how they ended", Object.keys(totals.ended), ({ ended }) => ended),
    bars("Outcomes", Object.keys(totals.outcomes), ({ outcomes }) => outcomes),
    bars("Rests begun, by reason", restReasons, ({ rests }) => rests),
    bars("Requests refused", Object.keys(totals.refused), ({ refused }) => refused),
    `<section><h2>Maxima against limits</h2><p>The fullest window of each exit, as the rule counts it. Of ${peaks.count} windows, ${peaks.full} reached their limit. The ${peaks.listed.length} fullest are shown.</p>`,
    shares(
      peaks.listed.map(({ exit, slots, limit, windowMs, seen, n, at: when }) => ({
        name: exit,
        share: slots / limit,
        text: `${slots} of ${limit} in ${spanOf(windowMs)}; the target saw at most ${seen} (commit ${n}, ${timeOf(when)})`,
      })),
    ),
    "</section>",
    actsOf(acts),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escaped(title)}</title><style>${style}</style></head>
<body>
${body.join("\n")}
</body></html>
`;
}

function resultOf({ listed, count }: Gathered["findings"]): string {
  if (count === 0) return "<p>The independent checker found nothing wrong in this range.</p>";
  const rows = listed.map(
    ({ n, at, rule, what }) => `<li>commit ${n}, ${timeOf(at)}: ${escaped(rule)}: ${escaped(what)}</li>`,
  );
  return `<p class="wrong">The independent checker found ${counted(count, "thing")} wrong:</p><ul>${rows.join("")}</ul>`;
}

/** The last ones, newest first. */
function actsOf({ listed, count }: Gathered["acts"]): string {
  if (count === 0) return "<section><h2>Administrative acts</h2><p>No act is recorded with its user.</p></section>";
  const rows = listed.toReversed().map(({ n, at, by, type, proxyId = "" }) => {
    const cells = [timeOf(at), by, type, proxyId, `commit ${n}`].map((cell) => `<td>${escaped(cell)}</td>`);
    return `<tr>${cells.join("")}</tr>`;
  });
  const shown = listed.length < count ? `The last ${listed.length} of ${count}.` : `All ${count}.`;
  return `<section><h2>Administrative acts</h2><p>${shown}</p><table>${rows.join("")}</table></section>`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  return `<table>${rows.map(([name, value]) => `<tr><th>${escaped(name)}</th><td><code>${escaped(value)}</code></td></tr>`).join("")}</table>`;
}

function spanOf(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 120_000) return `${Math.round(ms / 100) / 10} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 6000) / 10} min` : `${Math.round(ms / 360_000) / 10} h`;
}
