// Grants, outcomes, refusals and waiting requests, from the moment when the page was opened. The numbers are the
// differences of the pool's own counts.
import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

const pointsMax = 600;
/** At least. */
const shownSeconds = 120;
const lines = [
  { label: "Leases/s", colour: "--in-use" },
  { label: "Successes/s", colour: "--available" },
  { label: "Failures/s", colour: "--exhausted" },
  { label: "Refusals/s", colour: "--cooling" },
  { label: "Waiting", colour: "--retired" },
];

/** @param {{stats: import("./overview.js").Stats}} props */
export function Chart({ stats }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | undefined} */ (undefined));
  const points = useRef(/** @type {number[][]} */ ([[stats.at / 1000, 0, 0, 0, 0, stats.waiting]]));
  const before = useRef(stats);
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (place.current);
    const isDark = matchMedia("(prefers-color-scheme: dark)");
    const begin = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsFor(element), tableOf(points.current), element);
    };
    begin();
    const resized = new ResizeObserver(() => plot.current?.setSize(sizeOf(element)));
    resized.observe(element);
    isDark.addEventListener("change", begin);
    return () => {
      resized.disconnect();
      isDark.removeEventListener("change", begin);
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => {
    const ms = stats.at - before.current.at;
    if (ms < 900) return;
    const [now, then] = [countsOf(stats), countsOf(before.current)];
    const rates = now.map((value, i) => (1000 * Math.max(0, value - (then[i] ?? 0))) / ms);
    points.current = [...points.current, [stats.at / 1000, ...rates, stats.waiting]].slice(-pointsMax);
    before.current = stats;
    plot.current?.setData(tableOf(points.current));
  }, [stats]);
  const last = points.current.at(-1) ?? [];
  const said = lines.map(({ label }, i) => `${label} ${(last[i + 1] ?? 0).toFixed(1)}`).join(", ");
  return html`<div class="chart" ref=${place} role="img" aria-label=${`Chart. Last: ${said}.`}></div>
    <ul class="legend">
      ${lines.map(({ label, colour }) => html`<li key=${label}><span class="line" style=${{ background: `var(${colour})` }}></span>${label}</li>`)}
    </ul>`;
}

/** @param {import("./overview.js").Stats} stats */
function countsOf({ leases, outcomes, refused }) {
  const refusals = Object.values(refused).reduce((sum, count) => sum + count, 0);
  return [leases["granted"] ?? 0, outcomes["succeeded"] ?? 0, outcomes["failed"] ?? 0, refusals];
}

/** By line: uPlot wants one array for each. @param {number[][]} points @returns {uPlot.AlignedData} */
function tableOf(points) {
  const columns = Array.from({ length: lines.length + 1 }, (_, i) => points.map((point) => point[i] ?? 0));
  return /** @type {uPlot.AlignedData} */ (columns);
}

/** @param {HTMLElement} element */
const sizeOf = (element) => ({ width: element.clientWidth, height: 220 });

/** @param {HTMLElement} element @returns {uPlot.Options} */
function optionsFor(element) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line") },
  };
  return {
    ...sizeOf(element),
    legend: { show: false },
    cursor: { show: false },
    axes: [axis, { ...axis, size: 45 }],
    scales: {
      x: { range: (_plot, min, max) => [Math.min(min ?? 0, (max ?? 0) - shownSeconds), max ?? 1] },
      y: { range: (_plot, _min, max) => [0, Math.max(1, max * 1.1)] },
    },
    series: [
      {},
      ...lines.map(({ label, colour: name }, i) => ({
        label,
        stroke: colour(name),
        width: 2,
        dash: i < 3 ? [] : [5, 4],
      })),
    ],
  };
}
