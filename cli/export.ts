// `remuda proxies export`: a pool's proxies as a list that `remuda proxies add` reads again, to the same ids where the
// installation's key is the same. No reply tells a password, so a proxy with a user name is left out, and that is said.
import { type Command, Option } from "commander";
import { type ProxyReply, proxyStates } from "../events/proxy.ts";
import { parseProxyLine, proxyUrl } from "../events/proxy-line.ts";
import { type Asked, given, poolCommand, readLabel } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { complain } from "./failure.ts";
import { print } from "./output.ts";
import { printPages } from "./pages.ts";

/** An entry as `proxies.add` takes it. */
export interface Exported {
  url: string;
  labels?: Record<string, string>;
  limits?: object;
}

type Known = Pick<ProxyReply, "scheme" | "host" | "port" | "username" | "labels" | "limits">;

export function addExport(proxies: Command, withService: WithService): void {
  poolCommand(proxies, "export", "print a list that add reads again (all but the retired, and those with passwords)")
    .addOption(
      new Option("--format <format>", "json keeps labels and limits").choices(["json", "lines"]).default("json"),
    )
    .addOption(new Option("--state <state>", "only those in this state").choices(proxyStates))
    .option("--label <name=value...>", "only those with this label", readLabel)
    .action(async (options: Asked & { format: string; state?: string; label?: Record<string, string> }) => {
      const filter = given({ state: options.state, labels: options.label });
      const isJson = options.json === true || options.format === "json";
      const left = { secret: 0, cut: 0 };
      let mark = "[";
      const show = (page: ProxyReply[]): void => {
        for (const proxy of page) {
          if (proxy.state === "retired" && options.state !== "retired") continue; // Added again, it would come back.
          const entry = exported(proxy);
          if (entry === undefined) left.secret++;
          else if (isJson) {
            process.stdout.write(`${mark}\n${JSON.stringify(entry)}`);
            mark = ",";
          } else {
            const { line, isWhole } = exportedLine(entry);
            print(line);
            if (!isWhole) left.cut++;
          }
        }
      };
      const range = { limit: Number.POSITIVE_INFINITY, all: true } as const;
      const list = { verb: "proxies.list", key: "proxies", filter, json: false, range, show } as const;
      await withService(options, (ask) => printPages<ProxyReply>(ask, list));
      if (isJson) print(mark === "[" ? "[]" : "\n]");
      if (left.cut > 0)
        complain(`${count(left.cut)} labels or limits that a line cannot hold (--format json keeps them).`);
      if (left.secret === 0) return;
      complain(`${count(left.secret)} a user name, and passwords are not exported: left out.`);
      process.exitCode = 1; // What was printed is good, but not the whole pool: a script that keeps it must notice.
    });
}

/** Undefined for one with a user name: its password, if it has one, is not to be had, and without it it is another proxy. */
export function exported({ labels, limits, username, ...address }: Known): Exported | undefined {
  if (username !== undefined) return undefined;
  // Also where there are none: read again, they take the place of those the proxy has by then.
  return { url: proxyUrl(address), labels, ...(limits !== undefined && { limits }) };
}

/** With all of its labels, if they are a country and a city, else with none: adding a line with some takes away the others. */
export function exportedLine({ url, labels = {}, limits }: Exported): { line: string; isWhole: boolean } {
  const { country, city } = labels;
  const line = [url, country, city].filter((each) => each !== undefined).join(",");
  const [read, ...others] = parseProxyLine(line);
  const isSame =
    read?.ok === true &&
    others.length === 0 &&
    Object.keys(read.proxy.labels).length === Object.keys(labels).length &&
    Object.entries(labels).every(([name, value]) => read.proxy.labels[name] === value);
  return { line: isSame ? line : url, isWhole: isSame && limits === undefined };
}

function count(proxies: number): string {
  return proxies === 1 ? "1 proxy has" : `${proxies} proxies have`;
}
