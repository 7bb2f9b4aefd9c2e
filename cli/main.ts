// The command line: each command with --help, exit 0 done, 1 refused, 2 wrong usage, 3 no service.
import { Command } from "commander";
import { readConfig } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { runPicker, up, version } from "./up.ts";

const program = new Command("remuda")
  .description("Leases forward proxies to workers, and keeps every limit exactly.")
  .version(version());

program
  .command("up")
  .description("run everything in one process, with a NATS server of its own unless REMUDA_NATS_URL names one")
  .action(() => up(readConfig(process.env), process.env));
program
  .command("run")
  .description("run one service")
  .argument("<service>", "picker")
  .action(() => runPicker(readConfig(process.env)));

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Fault)) throw error;
  process.stderr.write(`remuda: ${error.message}\n`);
  process.exitCode = error.code === "retry-later" ? 3 : error.code === "in-use" ? 1 : 2;
}
