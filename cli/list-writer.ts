// Writes proxies as a list that `remuda proxies add` reads again.
import { readList } from "../lists/list.ts";
import type { ExportReply } from "../protocol/proxy.ts";

export type Format = "json" | "jsonl" | "csv" | "lines";

/** An entry as `proxies.add` takes it. */
export interface Exported {
  url: string;
  labels?: Record<string, string>;
  limits?: object;
}

export function exported({ url, labels, limits }: Omit<ExportReply["proxies"][number], "id">): Exported {
  // Labels are written even if there are none, because they replace the proxy's labels when the list is read.
  return { url, labels, ...(limits !== undefined && { limits }) };
}

/** Writes a list, entry by entry. `add` recognises each format by its first line. */
export class ListWriter {
  readonly #format: Format;
  #begun = false;
  /** The number of entries that have lost labels or limits. */
  cut = 0;

  constructor(format: Format) {
    this.#format = format;
  }

  entry(entry: Exported): string {
    const isFirst = !this.#begun;
    this.#begun = true;
    if (this.#format === "json") return `${isFirst ? "[" : ","}\n${json(entry)}`;
    if (this.#format === "jsonl") return `${json(entry)}\n`;
    if (this.#format === "csv") return (isFirst ? csvHeader : "") + csvRow(entry);
    const { line, isWhole } = exportedLine(entry);
    if (!isWhole) this.cut++;
    return `${line}\n`;
  }

  end(): string {
    if (this.#format === "json") return this.#begun ? "\n]\n" : "[]\n";
    return this.#format === "csv" && !this.#begun ? csvHeader : "";
  }
}

/**
 * Has all labels if they are only country and city, otherwise none, because a line with some labels would remove the
 * others.
 */
export function exportedLine({ url, labels = {}, limits }: Exported): { line: string; isWhole: boolean } {
  const { country, city } = labels;
  const line = [url, country, city].filter((each) => each !== undefined).join(",");
  const [read, ...others] = readList(line);
  const isSame =
    read?.ok === true &&
    others.length === 0 &&
    Object.keys(read.proxy.labels).length === Object.keys(labels).length &&
    Object.entries(labels).every(([name, value]) => read.proxy.labels[name] === value);
  return { line: isSame ? line : url, isWhole: isSame && limits === undefined };
}

const csvHeader = "url,labels,limits\n";

/** Each cell begins with a scheme or a brace, so a spreadsheet reads none as a formula. */
function csvRow({ url, labels, limits }: Exported): string {
  const cells = [labels, limits].map((each) => (each === undefined ? "" : `"${json(each).replaceAll('"', '""')}"`));
  return `${[url, ...cells].join(",")}\n`;
}

/** A reader would take an unescaped replacement character for damage. */
function json(value: object): string {
  return JSON.stringify(value).replaceAll("\uFFFD", "\\ufffd");
}
