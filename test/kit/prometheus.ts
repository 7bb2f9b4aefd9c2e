// The text format of Prometheus (version 0.0.4), read as strictly as its description allows: every deviation throws.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Family {
  type: string;
  help: string;
  samples: Sample[];
}

const types = ["counter", "gauge", "histogram", "summary", "untyped"];
const suffixes: Record<string, string[]> = { histogram: ["_bucket", "_sum", "_count"] };

export function readPrometheus(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let present: [name: string, family: Family] | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const [, kind, named = "", rest = ""] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (families.has(named)) throw new Error(`HELP of ${named} comes twice`);
      present = [named, { type: "", help: rest, samples: [] }];
      families.set(...present);
    } else if (kind === "TYPE") {
      if (present?.[0] !== named || present[1].type !== "" || present[1].samples.length > 0)
        throw new Error(`TYPE of ${named} is out of place`);
      if (!types.includes(rest)) throw new Error(`${named} is of no type: ${rest}`);
      present[1].type = rest;
    } else {
      const sample = readSample(line);
      if (present === undefined) throw new Error(`no family: ${line}`);
      const [name, family] = present;
      const allowed = (suffixes[family.type] ?? [""]).map((suffix) => name + suffix);
      if (!allowed.includes(sample.name)) throw new Error(`not of ${name}: ${line}`);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (seen.has(key)) throw new Error(`comes twice: ${line}`);
      seen.add(key);
      family.samples.push(sample);
    }
  }
  for (const [name, family] of families) {
    if (family.type === "") throw new Error(`${name} has no TYPE`);
    if (family.type === "counter" && family.samples.some(({ value }) => value < 0))
      throw new Error(`${name} is below 0`);
    if (family.type === "histogram") checkHistogram(name, family.samples);
  }
  return families;
}

function readSample(line: string): Sample {
  const [, name = "", , inside = "", number = ""] =
    /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})? (-?(?:\d+(?:\.\d+)?(?:e[+-]\d+)?|Inf)|\+Inf|NaN)$/.exec(line) ?? [];
  if (name === "") throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = inside;
  while (rest !== "") {
    const [all = "", label = "", text = ""] =
      /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=.)|$)/.exec(rest) ?? [];
    if (all === "" || label in labels) throw new Error(`no labels: ${line}`);
    labels[label] = text;
    rest = rest.slice(all.length);
  }
  return { name, labels, value: Number(number.replace("Inf", "Infinity")) };
}

/** Buckets ascend and are cumulative. The last one is +Inf and equals the count. */
function checkHistogram(name: string, samples: readonly Sample[]): void {
  const series = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels;
    const key = JSON.stringify(Object.entries(labels).sort());
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const [key, each] of series) {
    const buckets = each.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => (labels["le"] === "+Inf" ? Infinity : Number(labels["le"])));
    const [sum, ...sums] = each.filter((sample) => sample.name === `${name}_sum`);
    const [count, ...counts] = each.filter((sample) => sample.name === `${name}_count`);
    const isWhole = sum !== undefined && count !== undefined && sums.length === 0 && counts.length === 0;
    if (!isWhole || bounds.length === 0 || bounds.at(-1) !== Infinity) throw new Error(`${name}${key} is not whole`);
    for (const [place, bucket] of buckets.entries()) {
      const before =
        place === 0 ? { bound: -Infinity, value: 0 } : { bound: bounds[place - 1]!, value: buckets[place - 1]!.value };
      if (!(bounds[place]! > before.bound) || bucket.value < before.value)
        throw new Error(`${name}${key}: the buckets do not ascend`);
    }
    if (buckets.at(-1)?.value !== count.value) throw new Error(`${name}${key}: the count is not the last bucket's`);
  }
}
