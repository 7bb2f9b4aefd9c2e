// `remuda proxies export`: a pool's proxies, with their credentials, as a list that `remuda proxies add` reads again.
// Under the key of the same installation they keep their ids. They keep labels and limits that the format can hold.
import { type Command, Option } from "commander";
import { proxyStates } from "../events/proxy.ts";
import { readList } from "../lists/list.ts";
import { given } from "../protocol/given.ts";
import type { ExportReply } from "../protocol/proxy.ts";
import { type Asked, poolCommand, readLabel } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { printError } from "./failure.ts";
import { writing } from "./files.ts";
import { pagesOf } from "./pages.ts";

/** An entry as `proxies.add` takes it. */
export interface Exported {
  url: string;
  labels?: Record<string, string>;
  limits?: object;
}

export const formats = ["json", "jsonl", "csv", "lines"] as const;
export type Format = (typeof formats)[number];

/** At most this many lost proxies are named. */
const namedMax = 20;

export function addExport(proxies: Command, withService: WithService): void {
  poolCommand(
    proxies,
    "export",
    "write a list of all proxies except retired ones, with user names and passwords, as add reads it",
  )
    .addOption(
      new Option("--format <format>", "the format of the list; lines omit limits, and most labels")
        .choices(formats)
        .default("json"),
    )
    .option("--output <file>", "write to this file, which only you can read, instead of the standard output")
    .addOption(new Option("--state <state>", "only proxies in this state").choices(proxyStates))
    .option("--label <name=value...>", "only proxies with this label", readLabel)
    .action(
      async (options: Asked & { format: Format; output?: string; state?: string; label?: Record<string, string> }) => {
        const filter = given({ state: options.state, labels: options.label });
        const told = { secret: 0, cut: 0, lost: [] as NonNullable<ExportReply["lost"]> };
        await writing(options.output, (write) =>
          withService(options, async (ask) => {
            const list = new ListWriter(options.json === true ? "json" : options.format);
            for await (const page of pagesOf<ExportReply>(ask, "proxies.export", filter)) {
              await write(page.proxies.map((each) => list.entry(exported(each))).join(""));
              told.secret += page.proxies.filter(({ url }) => /:\/\/[^/@]+@/.test(url)).length;
              told.lost.push(...(page.lost ?? []));
            }
            await write(list.end());
            told.cut = list.cut;
          }),
        );
        if (told.cut > 0)
          printError(`${count(told.cut)} labels or limits that a line cannot hold. Use --format json to keep them.`);
        if (told.secret > 0 && process.stderr.isTTY)
          printError(`the list contains the user names and passwords of ${told.secret} proxies. Keep it private.`);
        if (told.lost.length === 0) return;
        for (const { id, url, username } of told.lost.slice(0, namedMax))
          printError(`left out: ${id} ${url}, its user name (${username}) and password are lost.`);
        printError(
          `${told.lost.length} left out: the secrets of the installation lack their user names and passwords, or are damaged. ` +
            "Add these proxies again with both, or retire them.",
        );
        process.exitCode = 1; // A script must notice that the list is not the whole pool.
      },
    );
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

function count(proxies: number): string {
  return proxies === 1 ? "1 proxy has" : `${proxies} proxies have`;
}
