// `remuda env`: what a client needs to know, as assignments for a shell: eval "$(npx remuda env)".
import { type Command, Option } from "commander";
import type { Address } from "./address.ts";
import { print, printJson } from "./output.ts";

export function addEnvironment(program: Command, find: () => Address): void {
  program
    .command("env")
    .description('print where the service is, as shell assignments: eval "$(npx remuda env)"')
    .addOption(
      new Option("--as <user>", "whose: a client leases, an auditor reads ledgers (the same, while NATS has no users)")
        .choices(["client", "auditor"])
        .default("client"),
    )
    .option("--json", "print one JSON object")
    .action((options: { json?: true }) => {
      const { natsUrl, httpUrl } = find();
      const variables = { REMUDA_NATS_URL: natsUrl, ...(httpUrl === undefined ? {} : { REMUDA_HTTP_URL: httpUrl }) };
      if (options.json) return printJson(variables);
      for (const [name, value] of Object.entries(variables)) print(`${name}=${quoted(value)}`);
    });
}

/** For a POSIX shell: as it is where that is safe, else in single quotes. */
export function quoted(value: string): string {
  return /^[\w.:/@%+,=-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
