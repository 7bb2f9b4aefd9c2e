// `remuda proxies export`: a pool's proxies, with their credentials, as a list that `remuda proxies add` reads again.
// The ids are the same if the installation's key is the same. Labels and limits are the same if the format can hold
// them.

import { existsSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { type Command, Option } from "commander";
import { proxyStates } from "../events/proxy.ts";
import { readList } from "../lists/list.ts";
import { given } from "../protocol/given.ts";
import type { ExportReply } from "../protocol/proxy.ts";
import { Fault } from "../runtime/fault.ts";
import { type Asked, poolCommand, readLabel } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { complain } from "./failure.ts";

/** An entry as `proxies.add` takes it. */
export interface Exported {
  url: string;
  labels?: Record<string, string>;
  limits?: object;
}

export const formats = ["json", "jsonl", "csv", "lines"] as const;
export type Format = (typeof formats)[number];

/** At most this many losses are named one by one. */
const namedMax = 20;

export function addExport(proxies: Command, withService: WithService): void {
  poolCommand(proxies, "export", "write a list that add reads again, passwords included (all but the retired)")
    .addOption(new Option("--format <format>", "lines keep no limits, and few labels").choices(formats).default("json"))
    .option("--output <file>", "write it there, readable by nobody else")
    .addOption(new Option("--state <state>", "only those in this state").choices(proxyStates))
    .option("--label <name=value...>", "only those with this label", readLabel)
    .action(
      async (options: Asked & { format: Format; output?: string; state?: string; label?: Record<string, string> }) => {
        const filter = given({ state: options.state, labels: options.label });
        const told = { secret: 0, cut: 0, lost: [] as { id: string; url: string }[] };
        await writing(options.output, (write) =>
          withService(options, async (ask) => {
            const list = new ListWriter(options.json === true ? "json" : options.format);
            let after: string | undefined;
            do {
              const page: ExportReply = await ask("proxies.export", { ...filter, ...given({ after }) });
              await write(page.proxies.map((each) => list.entry(exported(each))).join(""));
              told.secret += page.proxies.filter(({ url }) => /:\/\/[^/@]+@/.test(url)).length;
              told.lost.push(...(page.lost ?? []));
              after = page.next;
            } while (after !== undefined);
            await write(list.end());
            told.cut = list.cut;
          }),
        );
        if (told.cut > 0)
          complain(`${count(told.cut)} labels or limits that a line cannot hold (--format json keeps them).`);
        if (told.secret > 0 && process.stderr.isTTY)
          complain(`the list has passwords in it (${told.secret} of its proxies): keep it from others.`);
        if (told.lost.length === 0) return;
        for (const { id, url } of told.lost.slice(0, namedMax))
          complain(`left out: ${id} ${url}, its password is lost.`);
        complain(
          `${told.lost.length} left out in all: their passwords are missing from the secrets of the installation, or damaged. ` +
            "Add these proxies again with their passwords, or retire them.",
        );
        process.exitCode = 1; // The output is good, but not the whole pool. A script that keeps it must notice.
      },
    );
}

export function exported({ url, labels, limits }: Omit<ExportReply["proxies"][number], "id">): Exported {
  // Labels are written even if there are none. Read again, they replace the proxy's labels at that time.
  return { url, labels, ...(limits !== undefined && { limits }) };
}

/** A list, entry by entry. `add` recognises each format from its first line. */
export class ListWriter {
  readonly #format: Format;
  #begun = false;
  /** Entries from which something is left out. */
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
 * With all of its labels if they are only country and city, else with none: a line with some labels would remove the
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

/** No cell begins with a character that a spreadsheet takes for a formula: each begins with a scheme or a brace. */
function csvRow({ url, labels, limits }: Exported): string {
  const cells = [labels, limits].map((each) => (each === undefined ? "" : `"${json(each).replaceAll('"', '""')}"`));
  return `${[url, ...cells].join(",")}\n`;
}

/** Readers take the replacement character for a sign of damage. Escaped, it is only itself. */
function json(value: object): string {
  return JSON.stringify(value).replaceAll("\uFFFD", "\\ufffd");
}

/** To the standard output, or to a file that appears only when it is complete. */
async function writing(file: string | undefined, use: (write: (text: string) => Promise<void>) => Promise<void>) {
  if (file === undefined) return use(toStdout);
  if (existsSync(file) && !statSync(file).isFile())
    throw new Fault("fix-setup", `${file} is no file (without --output the list goes to the standard output).`);
  const part = `${file}.part`;
  let handle: FileHandle | undefined;
  try {
    await rm(part, { force: true });
    handle = await open(part, "wx", 0o600);
    const whole = handle;
    await use((text) => whole.writeFile(text));
    await whole.sync();
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (error instanceof Error && syscall !== undefined && !(error instanceof Fault))
      throw new Fault("fix-setup", `${file} cannot be written (${code}).`, { cause: error });
    throw error;
  } finally {
    await handle?.close();
  }
}

/** Waits until the pipe's reader has room. */
function toStdout(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()));
}

function count(proxies: number): string {
  return proxies === 1 ? "1 proxy has" : `${proxies} proxies have`;
}
