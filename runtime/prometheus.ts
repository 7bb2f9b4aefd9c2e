// Metrics in the text format of Prometheus (version 0.0.4). Labels hold only fixed words and pools' names.
//
// This file does not use prom-client: nearly everything is counted by pickers, in their own processes, and comes here
// as finished counts at the moment of the scrape. That library has no way to accept such counts.
import { Histogram } from "./histogram.ts";

/** A histogram as it was counted, here or in another process. */
interface Counted {
  le: readonly number[];
  counts: readonly number[];
  sum: number;
}

export type Labels = Readonly<Record<string, string | number>>;

export interface Family {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  samples: { suffix?: string; labels?: Labels; value: number }[];
}

export function gauge(name: string, help: string, value: number | undefined): Family {
  return { name, type: "gauge", help, samples: value === undefined ? [] : [{ value }] };
}

/** Seconds: from a reply out of memory to the longest wait. */
const durationBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Durations by labels. The code that chooses the labels bounds their number. */
export class Durations {
  readonly #series = new Map<string, { labels: Labels; histogram: Histogram }>();

  observe(labels: Labels, seconds: number): void {
    const key = JSON.stringify(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { labels, histogram: new Histogram(durationBounds) };
      this.#series.set(key, series);
    }
    series.histogram.observe(seconds);
  }

  samples(): Family["samples"] {
    return [...this.#series.values()].flatMap(({ labels, histogram }) => histogramSamples(labels, histogram.view()));
  }
}

/**
 * Cumulative buckets, sum and count.
 * @param unit of the values, in the metric's unit: 0.001 for milliseconds shown as seconds.
 */
export function histogramSamples(labels: Labels, { le, counts, sum }: Counted, { unit = 1 } = {}): Family["samples"] {
  let below = 0;
  const buckets = counts.map((count, place) => {
    below += count;
    const bound = le[place];
    return {
      suffix: "_bucket",
      labels: { ...labels, le: bound === undefined ? "+Inf" : times(bound, unit) },
      value: below,
    };
  });
  return [...buckets, { suffix: "_sum", labels, value: times(sum, unit) }, { suffix: "_count", labels, value: below }];
}

export function showMetrics(families: readonly Family[]): string {
  return families.map(showFamily).join("");
}

/** Without the rounding noise of binary fractions: 5 ms are 0.005 s. */
function times(value: number, unit: number): number {
  return unit === 1 ? value : Number((value * unit).toPrecision(12));
}

function showFamily({ name, type, help, samples }: Family): string {
  const lines = samples.map(
    ({ suffix = "", labels = {}, value }) => `${name}${suffix}${showLabels(labels)} ${value}\n`,
  );
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function showLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(String(value))}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
