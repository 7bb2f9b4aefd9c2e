// Metrics in the text format of Prometheus (version 0.0.4), by hand: most are read from the pools' stats at the moment
// of the scrape, and only the durations of HTTP requests are counted here. No label holds anything but words and names.

/** `le` of each bucket, in seconds: from a reply out of memory to the longest wait. */
const bucketsS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type Labels = Readonly<Record<string, string | number>>;

export interface Family {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  samples: { suffix?: string; labels?: Labels; value: number }[];
}

/** How long things took, by labels. Their number is bounded by who chooses the labels. */
export class Durations {
  readonly #series = new Map<string, { labels: Labels; counts: number[]; sum: number }>();

  observe(labels: Labels, seconds: number): void {
    const key = JSON.stringify(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { labels, counts: new Array<number>(bucketsS.length + 1).fill(0), sum: 0 };
      this.#series.set(key, series);
    }
    const bucket = bucketsS.findIndex((le) => seconds <= le);
    const place = bucket < 0 ? bucketsS.length : bucket;
    series.counts[place] = (series.counts[place] ?? 0) + 1;
    series.sum += seconds;
  }

  family(name: string, help: string): Family {
    const samples: Family["samples"] = [];
    for (const { labels, counts, sum } of this.#series.values()) {
      let below = 0;
      for (const [place, count] of counts.entries()) {
        below += count;
        samples.push({ suffix: "_bucket", labels: { ...labels, le: bucketsS[place] ?? "+Inf" }, value: below });
      }
      samples.push({ suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: below });
    }
    return { name, type: "histogram", help, samples };
  }
}

export function showMetrics(families: readonly Family[]): string {
  return families.map(showFamily).join("");
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
