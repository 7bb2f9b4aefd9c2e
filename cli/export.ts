// `remuda proxies export`: a pool's proxies, with their credentials, as a list that `remuda proxies add` reads again.
// Under the key of the same installation they keep their ids. They keep labels and limits that the format can hold.
import { type Command, Option } from "commander";
import { proxyStates } from "../events/words.ts";
import { given } from "../protocol/given.ts";
import type { ExportReply } from "../protocol/proxy.ts";
import { type Asked, poolCommand, readLabel } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { printError } from "./failure.ts";
import { writing } from "./files.ts";
import type { Format } from "./list-writer.ts";
import { pagesOf } from "./pages.ts";

export const formats: readonly Format[] = ["json", "jsonl", "csv", "lines"];

/** At most this many lost proxies are named. */
const namedMax = 20;

export function addExport(proxies: Command, withService: WithService): void {
  poolCommand(
    proxies,
    "export",
    "write a list of all proxies except retired ones, with user names and passwords, that add can read",
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
            const { exported, ListWriter } = await import("./list-writer.ts");
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

function count(proxies: number): string {
  return proxies === 1 ? "1 proxy has" : `${proxies} proxies have`;
}
