// `remuda doctor`: finds problems of the set-up, and says what to do. It changes nothing, connects to no proxy, and
// ends within ten seconds.

import type { Command } from "commander";
import { type Config, readConfig } from "../runtime/config.ts";
import { counted, printable } from "../runtime/text.ts";
import { findAddress, findLedger } from "./address.ts";
import { type Colour, painted } from "./colour.ts";
import type { Finding, Severity } from "./finding.ts";
import { print, printJson } from "./output.ts";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("check the set-up, and say what to do; exit code 1 if there is a problem")
    .option("--json", "print {problems, warnings, findings} as JSON")
    .action(async (options: { json?: true }) => {
      const findings = await examine(readConfig(process.env), process.env);
      const [problems, warnings] = (["problem", "warning"] as const).map((severity) => numberOf(findings, severity));
      if (options.json) printJson({ problems, warnings, findings });
      else show(findings);
      process.exitCode = problems === 0 ? 0 : 1;
      // A check that timed out may still hold a socket open.
      setTimeout(() => process.exit(), 100).unref();
    });
}

async function examine(config: Config, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  // Imported late, because they load the broker and the ledger code.
  const [{ lookAtBroker }, { lookAtFiles }, { lookAtMachine }, { lookAtPools }] = await Promise.all([
    import("./doctor-broker.ts"),
    import("./doctor-files.ts"),
    import("./doctor-machine.ts"),
    import("./doctor-pools.ts"),
  ]);
  const address = findAddress(config);
  const links = { requests: address, ledger: findLedger(config), outcomes: findAddress(config, "follower") };
  const startedAt = { wall: Date.now(), monotonic: performance.now() };
  const [files, machine, [broker, pools]] = await Promise.all([
    lookAtFiles(config),
    lookAtMachine(config, { env, address }),
    // The pools are checked only if the broker answers.
    lookAtBroker(config, { links, startedAt }).then(async ({ findings, answers }) => {
      return [findings, answers ? await lookAtPools(links) : []] as const;
    }),
  ]);
  return [...machine, ...files, ...broker, ...pools];
}

const marks: Record<Severity, { word: string; colour: Colour }> = {
  ok: { word: "ok", colour: "green" },
  note: { word: "note", colour: "green" },
  warning: { word: "warning", colour: "yellow" },
  problem: { word: "problem", colour: "red" },
};

function show(findings: readonly Finding[]): void {
  const width = Math.max(...findings.map(({ about }) => about.length));
  for (const { severity, about, what, todo } of findings) {
    const { word, colour } = marks[severity];
    const lead = `${painted(word.padEnd(7), colour)}  ${printable(about).padEnd(width)}  `;
    print(`${lead}${printable(what)}`);
    if (todo !== undefined) print(`${" ".repeat(width + 11)}→ ${printable(todo)}`);
  }
  const [problems, warnings] = [numberOf(findings, "problem"), numberOf(findings, "warning")];
  print(
    problems + warnings === 0 ? "All is well." : `${counted(problems, "problem")}, ${counted(warnings, "warning")}.`,
  );
}

function numberOf(findings: readonly Finding[], severity: Severity): number {
  return findings.filter((finding) => finding.severity === severity).length;
}
