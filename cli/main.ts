// The command line: its commands, and their exit codes.
import { Argument, Command } from "commander";
import { type Config, readConfig } from "../runtime/config.ts";
import { findAddress, findLedger, type LedgerAddress } from "./address.ts";
import { sayAlive } from "./alive.ts";
import type { WithService } from "./connection.ts";
import { addExamples } from "./examples.ts";
import { endWith } from "./failure.ts";
import { withHint } from "./hint.ts";
import { addCommands, type Modules } from "./modules.ts";
import { endWithReader } from "./output.ts";
import { version } from "./version.ts";

const config = (): Config => readConfig(process.env);
const ledger = (): LedgerAddress => findLedger(config());
const withService: WithService = async (asked, use) =>
  (await import("./connection.ts")).serviceAt(() => findAddress(config()))(asked, use);
const services = () => import("./up.ts");
const [, , word] = process.argv;

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
  .addArgument(new Argument("<service>").choices(["picker", "api", "gateway", "sources", "guest-token", "audit"]))
  .action(async (service: "picker" | "api" | "gateway" | "sources" | "guest-token" | "audit") => {
    const settings = readConfig(process.env);
    await (await services()).run(service, settings);
    sayAlive(settings);
  });

const modules: Modules = [
  [["env"], async () => (await import("./environment.ts")).addEnvironment(program, config)],
  [["user"], async () => (await import("./user.ts")).addUsers(program, config)],
  [["proxies"], async () => (await import("./proxies.ts")).addProxies(program, withService)],
  [
    ["lease", "renew", "report", "release", "leases"],
    async () => (await import("./leases.ts")).addLeases(program, withService),
  ],
  [["exec"], async () => (await import("./exec.ts")).addExec(program, withService)],
  [["pool"], async () => (await import("./pools.ts")).addPools(program, withService)],
  [["sources"], async () => (await import("./sources.ts")).addSources(program, withService)],
  [["watch"], async () => (await import("./watch.ts")).addWatch(program, ledger, withService)],
  [["token"], async () => (await import("./token.ts")).addTokens(program, ledger, withService)],
  [
    ["audit"],
    async () => {
      const audit = program
        .command("audit")
        .description("answer questions from the ledger: verify it, explain it, show the pool as it was");
      if (["audit", "completion"].some((each) => process.argv.includes(each)))
        await (await import("./audit.ts")).addAudit(audit, config, word === "audit" ? process.argv[3] : undefined);
    },
  ],
  [["backup", "restore"], async () => (await import("./backup.ts")).addBackup(program, config)],
  [["key"], async () => (await import("./keys.ts")).addKeys(program, config)],
  [["doctor"], async () => (await import("./doctor.ts")).addDoctor(program)],
  [["completion"], async () => (await import("./completion.ts")).addCompletion(program)],
];
const isAlone = ["up", "run", "--version", "-V"].includes(word ?? "");
if (!isAlone) await addCommands(modules, word === "completion" ? undefined : word);
addExamples(program);

endWithReader();
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = endWith(error);
  // The NATS library leaves the socket of a timed-out attempt open, which would keep the process alive.
  setTimeout(() => process.exit(), 100).unref();
}
