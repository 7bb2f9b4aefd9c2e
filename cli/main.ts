// The command line: its commands, and its exit codes. Each command has --help. Exit 0 done, 1 refused, 2 wrong usage, 3
// no service.
import { Argument, Command } from "commander";
import { type Config, readConfig } from "../runtime/config.ts";
import { type Address, findAddress, findLedger } from "./address.ts";
import { sayAlive } from "./alive.ts";
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
// Imported only to run the services: it takes as long as everything else.
const services = () => import("./up.ts");

// Before the commands are created, because they copy these settings.
const program = new Command("remuda")
  .description("Leases forward proxies to workers, and keeps every limit exactly.")
  .version(version())
  .exitOverride()
  .enablePositionalOptions()
  .configureOutput({ outputError: (text, write) => write(withHint(text.replace(/^error: /, "remuda: "))) })
  .showHelpAfterError("(--help says what it takes)")
  .addHelpText(
    "after",
    `
Exit code: 0 done, 1 refused (the word comes first on stderr), 2 wrong usage, 3 no service.
Durations: a number with a unit, such as 500ms, 90s, 10m, 2h or 1d.
The service: the one started here (REMUDA_DATA_DIR, .remuda by default), or where REMUDA_NATS_URL says.`,
  );

program
  .command("up")
  .description("run everything in one process, with a NATS server of its own unless REMUDA_NATS_URL names one")
  .option("--demo", "add ten proxies on loopback, and a site to fetch through them, that end with it")
  .action(async (options: { demo?: true }) => (await services()).up(readConfig(process.env), process.env, options));
program
  .command("run")
  .description("run one service, on the NATS that REMUDA_NATS_URL names")
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
// Imported only for audit commands: they load the state machines, the checker and the broker, as much as everything
// else.
const audit = program.command("audit").description("question the ledger: verify it, and see the pool as it was");
if (process.argv.includes("audit")) (await import("./audit.ts")).addAudit(audit, config);
addDoctor(program);
addExamples(program);

endWithReader();
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = endWith(error);
  // The NATS library leaves the socket of a timed-out attempt open, which would keep the process alive.
  setTimeout(() => process.exit(), 100).unref();
}
