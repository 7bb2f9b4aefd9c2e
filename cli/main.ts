// The command line: its commands, and their exit codes.
import { Argument, Command } from "commander";
import { type Config, readConfig } from "../runtime/config.ts";
import { type Address, findAddress, findLedger } from "./address.ts";
import { sayAlive } from "./alive.ts";
import { addCompletion } from "./completion.ts";
import { serviceAt } from "./connection.ts";
import { addDoctor } from "./doctor.ts";
import { addEnvironment } from "./environment.ts";
import { addExamples } from "./examples.ts";
import { addExec } from "./exec.ts";
import { endWith } from "./failure.ts";
import { withHint } from "./hint.ts";
import { addLeases } from "./leases.ts";
import { endWithReader } from "./output.ts";
import { addPools } from "./pools.ts";
import { addProxies } from "./proxies.ts";
import { addSources } from "./sources.ts";
import { addTokens } from "./token.ts";
import { addUsers } from "./user.ts";
import { version } from "./version.ts";
import { addWatch } from "./watch.ts";

const config = (): Config => readConfig(process.env);
const withService = serviceAt((): Address => findAddress(config()));
// Imported only to run services, because it doubles the time of a command.
const services = () => import("./up.ts");

// Set before the commands are created, because they copy these settings.
const program = new Command("remuda")
  .description("Leases forward proxies to workers, and keeps every limit exactly.")
  .version(version())
  .exitOverride()
  .enablePositionalOptions()
  .configureOutput({ outputError: (text, write) => write(withHint(text.replace(/^error: /, "remuda: "))) })
  .showHelpAfterError("(--help shows the usage)")
  .addHelpText(
    "after",
    `
Exit code: 0 done, 1 refused (stderr begins with the refusal code), 2 wrong
usage, 3 no service.
Durations: a number with a unit, such as 500ms, 90s, 10m, 2h or 1d.
Service: the one that was started here (REMUDA_DATA_DIR, .remuda by default), or
the one at REMUDA_NATS_URL.`,
  );

program
  .command("up")
  .description("run all services in one process, with its own NATS server unless REMUDA_NATS_URL names one")
  .option("--demo", "also run ten proxies on loopback and a site to fetch through them")
  .action(async (options: { demo?: true }) => (await services()).up(readConfig(process.env), process.env, options));
program
  .command("run")
  .description("run one service, with the NATS server at REMUDA_NATS_URL")
  .addArgument(new Argument("<service>").choices(["picker", "api", "sources", "guest-token", "audit"]))
  .action(async (service: "picker" | "api" | "sources" | "guest-token" | "audit") => {
    const settings = readConfig(process.env);
    await (await services()).run(service, settings);
    sayAlive(settings);
  });
addEnvironment(program, config);
addUsers(program, config);
addProxies(program, withService);
addLeases(program, withService);
addExec(program, withService);
addPools(program, withService);
addSources(program, withService);
addWatch(program, () => findLedger(readConfig(process.env)), withService);
addTokens(program, () => findLedger(readConfig(process.env)), withService);
// Imported only where its commands are needed, because it doubles the time of a command.
const audit = program
  .command("audit")
  .description("answer questions from the ledger: verify it, explain it, show the pool as it was");
if (process.argv.includes("audit") || process.argv.includes("completion"))
  (await import("./audit.ts")).addAudit(audit, config);
addDoctor(program);
addCompletion(program);
addExamples(program);

endWithReader();
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = endWith(error);
  // The NATS library leaves the socket of a timed-out attempt open, which would keep the process alive.
  setTimeout(() => process.exit(), 100).unref();
}
